-- Decide one customer's request: all of its slots, or none.
--
-- KEYS: account, deadlines, expiries, and with a hold the key's record, and for a reserve the
--       reservation.
-- ARGV: epoch, now, lapse up to (instant), hold ("" only asks); with a hold also refused ("1": hold
--       nothing), digest, expires ("" a consume), request, when it lapses; then the slots.
-- Replies: {'lost'} no such epoch; {'unseeded'}; {'stale'}; {'behind', instant}; {'reused'};
--          {'known', hold, made at, confirmed, request, balances, when it lapses ("" not)};
--          {'decided', allowed, then per slot: passed, left before, left after}.

local account, deadlines, expiries, record, reservation =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, hold = tonumber(ARGV[2]), ARGV[4]
local refused, digest, expires, request = ARGV[5] == '1', ARGV[6], ARGV[7], ARGV[8]
local FIRST, WIDTH = hold == '' and 5 or 10, 7

if redis.call('HGET', account, 'e') ~= ARGV[1] then return {'lost'} end
sweep(account, deadlines, expiries, ARGV[2], ARGV[3])

if hold ~= '' then
  local known = redis.call('HMGET', record, 'd', 'h', 't', 'c', 'q', 'r')
  -- A record that is neither confirmed nor held is of a hold that lapsed: as if never made.
  if known[1] and now - tonumber(known[3]) < KEPT_US
      and (known[4] or redis.call('HEXISTS', account, 'k:' .. known[2]) == 1) then
    if known[1] ~= digest then return {'reused'} end
    local lapses = redis.call('ZSCORE', deadlines, known[2]) or ''
    return {'known', known[2], known[3], known[4] or '', known[5] or '', known[6], lapses}
  end
end

local reply = judge(account, FIRST, WIDTH)
if reply[1] ~= 'decided' then return reply end
if refused then reply[2] = '0' end
if hold == '' or reply[2] == '0' then return reply end

local balances, packed = {}, {}
for i = FIRST, #ARGV, WIDTH do
  local slot = (i - FIRST) / WIDTH
  balances[slot + 1] = ARGV[i + 3] == 'unlimited' and '-' or reply[5 + 3 * slot]
  local hi, lo = pair(ARGV[i + 6])
  hold_units(account, ARGV[i], ARGV[i + 2], hi, lo, 1)
  packed[#packed + 1] = '|' .. ARGV[i] .. ',' .. ARGV[i + 2] .. ',' .. ARGV[i + 6]
end
local made = expires == '' and ARGV[2] or ARGV[2] .. ';' .. expires
redis.call('HSET', account, 'k:' .. hold, made .. table.concat(packed))
redis.call('ZADD', deadlines, ARGV[9], hold)
redis.call('DEL', record)
redis.call('HSET', record, 'd', digest, 'h', hold, 't', ARGV[2], 'q', request,
  'r', table.concat(balances, ' '))
redis.call('PEXPIRE', record, KEY_LIFETIME_MS)
if expires ~= '' then
  redis.call('DEL', reservation)
  redis.call('HSET', reservation, 'm', ARGV[2], 'x', expires, 'i', request)
  redis.call('PEXPIRE', reservation, KEY_LIFETIME_MS + math.floor((expires - now) / 1000))
end
return reply
