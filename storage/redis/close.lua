-- The end of a reservation is durable: what it did not use is free, the rest waits for the reader.
-- KEYS: account, deadlines, expiries, reservation.
-- ARGV: epoch, hold, digest, then per feature: feature, how much of the hold is used.

local account, deadlines, expiries, reservation = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local hold, kept = ARGV[2], {}
if redis.call('HGET', account, 'e') ~= ARGV[1] then return 0 end
local known = redis.call('HMGET', reservation, 'd', 'c')
if known[1] ~= ARGV[3] or known[2] then return 0 end
redis.call('HSET', reservation, 'c', '1')
redis.call('HDEL', reservation, 'q')
redis.call('ZREM', deadlines, hold .. '+')
for i = 4, #ARGV, 2 do kept[ARGV[i]] = ARGV[i + 1] end

local packed = redis.call('HGET', account, 'k:' .. hold)
if not packed then return 1 end
local stays = {string.match(packed, '^[%d;]+')}
for feature, segment, hi, lo in string.gmatch(packed, ENTRY) do
  -- A hold has one entry a feature and item: what is used of the feature fills them in turn.
  local used_hi, used_lo = pair(kept[feature])
  local over_hi = minus(used_hi, used_lo, tonumber(hi), tonumber(lo))
  local keep_hi, keep_lo = used_hi, used_lo
  if over_hi >= 0 then keep_hi, keep_lo = tonumber(hi), tonumber(lo) end
  kept[feature] = text(minus(used_hi, used_lo, keep_hi, keep_lo))
  hold_units(account, feature, segment, tonumber(hi), tonumber(lo), -1)
  hold_units(account, feature, segment, keep_hi, keep_lo, 1)
  stays[#stays + 1] = '|' .. feature .. ',' .. segment .. ',' .. text(keep_hi, keep_lo)
end
redis.call('HSET', account, 'k:' .. hold, table.concat(stays))
return 1
