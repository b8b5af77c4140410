-- Apply a stretch of one node's log to one account, exactly once.
--
-- KEYS: account, deadlines, expiries, then per settled key its record, per opened reservation the
--       key's record and the reservation, per ended one the reservation.
-- ARGV: epoch, node, after, upto, lifetime of a key (ms), now, number of deltas,
--       then per delta: feature, segment, amount;
--       number of settled keys, then per key: hold, digest, made at, balances;
--       number of opened, then per reservation: hold, digest, made at, balances, expires, request,
--         entries, lifetime (ms); number of ended, then: hold, kind, digest, at, balances.
-- Replies: 'lost', 'overlap' (part of it is applied: cut it anew), 'done'.

local account, deadlines, expiries = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', account, 'e') ~= ARGV[1] then return 'lost' end
local position = tonumber(redis.call('HGET', account, 'p:' .. ARGV[2]) or '0')
if position >= tonumber(ARGV[4]) then return 'done' end
if position > tonumber(ARGV[3]) then return 'overlap' end

local cursor = 6
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end

for _ = 1, tonumber(take()) do
  local feature, segment = take(), take()
  local hi, lo = pair(take())
  shift(account, 'u:' .. feature .. ':' .. segment, hi, lo, 1)
  local current = redis.call('HGET', account, 'c:' .. feature)
  if current and tonumber(segment) < tonumber(current) then
    redis.call('HINCRBY', account, 'v:' .. feature, 1)
  end
end
file_records(account, deadlines, expiries, ARGV[6], ARGV[5], take)
redis.call('HSET', account, 'p:' .. ARGV[2], ARGV[4])
return 'done'
