-- The event of a hold is durable: the hold waits for the reader and no longer lapses.
-- KEYS: account, deadlines, the key's record. ARGV: epoch, hold.

if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[3], 'h') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[3], 'c', '1')
redis.call('HDEL', KEYS[3], 'q')
return 1
