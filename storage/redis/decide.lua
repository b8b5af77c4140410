-- Decide one customer's request: all of its slots, or none. Reads everything before it writes.
--
-- KEYS: account, deadlines, and with a hold the key's record.
-- ARGV: epoch, now, lapse up to (instant), hold ("" only asks), refused ("1": hold nothing),
--       digest, deadline, lifetime of the key (ms), of the key (us), request,
--       then per slot: feature, schedule, segment, gate, opening, version ("" none), amount.
-- Replies: {'lost'} no such epoch; {'unseeded'}; {'stale'}; {'reused'};
--          {'known', hold, made at, confirmed, request, balances};
--          {'decided', allowed, then per slot: passed, left}.

local account, deadlines, record = KEYS[1], KEYS[2], KEYS[3]
local now, hold, refused = tonumber(ARGV[2]), ARGV[4], ARGV[5] == '1'
local FIRST, WIDTH = 11, 7

if redis.call('HGET', account, 'e') ~= ARGV[1] then return {'lost'} end

for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', ARGV[3], 'LIMIT', 0, 100)) do
  release(account, deadlines, lapsed)
end

if hold ~= '' then
  local known = redis.call('HMGET', record, 'd', 'h', 't', 'c', 'q', 'r')
  -- A record that is neither confirmed nor held is of a hold that lapsed: as if never made.
  if known[1] and now - tonumber(known[3]) < tonumber(ARGV[9])
      and (known[4] or redis.call('HEXISTS', account, 'k:' .. known[2]) == 1) then
    if known[1] ~= ARGV[6] then return {'reused'} end
    return {'known', known[2], known[3], known[4] or '', known[5] or '', known[6]}
  end
end

local reply, taken, packed = {'decided', '1'}, {}, {}
for i = FIRST, #ARGV, WIDTH do
  local feature, segment, version = ARGV[i], ARGV[i + 2], ARGV[i + 5]
  if redis.call('HGET', account, 'g:' .. feature) ~= ARGV[i + 1] then return {'unseeded'} end
  if version ~= '' then
    local current = tonumber(redis.call('HGET', account, 'c:' .. feature) or '-1')
    if tonumber(segment) > current then
      -- What was current is history from here on, and may have changed since it was read.
      redis.call('HSET', account, 'c:' .. feature, segment)
      redis.call('HINCRBY', account, 'v:' .. feature, 1)
      return {'stale'}
    end
    if (redis.call('HGET', account, 'v:' .. feature) or '0') ~= version then return {'stale'} end
  end
  local place = feature .. ':' .. segment
  local hi, lo = pair(ARGV[i + 4])
  hi, lo = minus(hi, lo, pair(redis.call('HGET', account, 'u:' .. place)))
  hi, lo = minus(hi, lo, pair(redis.call('HGET', account, 'h:' .. place)))
  local before = taken[place] or {0, 0}
  hi, lo = minus(hi, lo, before[1], before[2])
  local amount_hi, amount_lo = pair(ARGV[i + 6])
  local left_hi, left_lo = minus(hi, lo, amount_hi, amount_lo)
  local passed = ARGV[i + 3] ~= 'hard' or left_hi >= 0
  if passed then
    taken[place] = {plus(before[1], before[2], amount_hi, amount_lo)}
  else
    reply[2] = '0'
  end
  reply[#reply + 1] = passed and '1' or '0'
  reply[#reply + 1] = text(hi, lo)
  reply[#reply + 1] = text(left_hi, left_lo)
  packed[#packed + 1] = '|' .. feature .. ',' .. segment .. ',' .. ARGV[i + 6]
end

if refused then reply[2] = '0' end
if hold == '' or reply[2] == '0' then return reply end

local balances = {}
for i = FIRST, #ARGV, WIDTH do
  local slot = (i - FIRST) / WIDTH
  balances[slot + 1] = ARGV[i + 3] == 'unlimited' and '-' or reply[5 + 3 * slot]
  local hi, lo = pair(ARGV[i + 6])
  shift(account, 'h:' .. ARGV[i] .. ':' .. ARGV[i + 2], hi, lo, 1)
end
redis.call('HSET', account, 'k:' .. hold, ARGV[2] .. table.concat(packed))
redis.call('ZADD', deadlines, ARGV[7], hold)
redis.call('DEL', record)
redis.call('HSET', record, 'd', ARGV[6], 'h', hold, 't', ARGV[2], 'q', ARGV[10],
  'r', table.concat(balances, ' '))
redis.call('PEXPIRE', record, ARGV[8])
return reply
