-- Apply a stretch of one node's log to one account, exactly once.
--
-- KEYS: account, deadlines, then the record of every settled key.
-- ARGV: epoch, node, after, upto, lifetime of a key (ms), number of deltas,
--       then per delta: feature, segment, amount;
--       then per settled key: hold, digest, made at, balances.
-- Replies: 'lost', 'overlap' (part of it is applied: cut it anew), 'done'.

local account, deadlines = KEYS[1], KEYS[2]
if redis.call('HGET', account, 'e') ~= ARGV[1] then return 'lost' end
local position = tonumber(redis.call('HGET', account, 'p:' .. ARGV[2]) or '0')
if position >= tonumber(ARGV[4]) then return 'done' end
if position > tonumber(ARGV[3]) then return 'overlap' end

local deltas = tonumber(ARGV[6])
for i = 7, 6 + 3 * deltas, 3 do
  local feature, segment = ARGV[i], ARGV[i + 1]
  local hi, lo = pair(ARGV[i + 2])
  shift(account, 'u:' .. feature .. ':' .. segment, hi, lo, 1)
  local current = redis.call('HGET', account, 'c:' .. feature)
  if current and tonumber(segment) < tonumber(current) then
    redis.call('HINCRBY', account, 'v:' .. feature, 1)
  end
end

local place = 7 + 3 * deltas
for k = 3, #KEYS do
  release(account, deadlines, ARGV[place])
  redis.call('HDEL', KEYS[k], 'q')
  redis.call('HSET', KEYS[k], 'h', ARGV[place], 'd', ARGV[place + 1], 't', ARGV[place + 2],
    'r', ARGV[place + 3], 'c', '1')
  redis.call('PEXPIRE', KEYS[k], ARGV[5])
  place = place + 4
end
redis.call('HSET', account, 'p:' .. ARGV[2], ARGV[4])
return 'done'
