-- The record of a hold is durable: a consume's hold waits for the reader, a reservation's for its
-- deadline; neither lapses any more.
-- KEYS: account, deadlines, expiries, the key's record. ARGV: epoch, hold.

local account, deadlines, expiries, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('HGET', account, 'e') ~= ARGV[1] then return 0 end
if redis.call('HGET', record, 'h') ~= ARGV[2] then return 0 end
redis.call('HSET', record, 'c', '1')
redis.call('HDEL', record, 'q')
if redis.call('ZREM', deadlines, ARGV[2]) == 0 then return 1 end
local packed = redis.call('HGET', account, 'k:' .. ARGV[2])
local expires = packed and string.match(packed, '^%d+;(%d+)')
if expires then redis.call('ZADD', expiries, expires, ARGV[2]) end
return 1
