-- Put before every script. All keys of one call share one {customer} hash tag.
--
-- Account (hash):  e             epoch it was filled under
--                  p:<node>      last record of the node's log applied
--                  g:<feature>   digest of the schedule its usage is filed under
--                  v:<feature>   changes to segments before the current one
--                  c:<feature>   that current segment's start
--                  u:<feature>:<segment>  used,  h:<feature>:<segment>  held
--                  k:<hold>      an open hold: "<made at>|<feature>,<segment>,<amount>|..."
-- Deadlines (sorted set): hold -> instant at which it may lapse. Confirmed holds are not in it.
--
-- Amounts are "hi:lo", hi * 10^15 + lo nano-units with 0 <= lo < 10^15: Lua numbers are doubles,
-- exact to 2^53, and two of them are exact to 10^30. Instants are microseconds below 2^53.

local BASE = 1000000000000000

local function pair(text)
  if not text then return 0, 0 end
  local hi, lo = string.match(text, '^(-?%d+):(%d+)$')
  return tonumber(hi), tonumber(lo)
end

local function text(hi, lo)
  return string.format('%.0f:%.0f', hi, lo)
end

local function plus(hi, lo, more_hi, more_lo)
  hi, lo = hi + more_hi, lo + more_lo
  if lo >= BASE then return hi + 1, lo - BASE end
  return hi, lo
end

local function minus(hi, lo, less_hi, less_lo)
  hi, lo = hi - less_hi, lo - less_lo
  if lo < 0 then return hi - 1, lo + BASE end
  return hi, lo
end

-- Add (or with sign < 0 take) an amount to a field; a field that becomes zero is removed.
local function shift(account, field, amount_hi, amount_lo, sign)
  local hi, lo = pair(redis.call('HGET', account, field))
  local step = sign < 0 and minus or plus
  hi, lo = step(hi, lo, amount_hi, amount_lo)
  if hi == 0 and lo == 0 then
    redis.call('HDEL', account, field)
  else
    redis.call('HSET', account, field, text(hi, lo))
  end
end

-- End a hold: what it held is free again. Does nothing for one that is not open.
local function release(account, deadlines, hold)
  local packed = redis.call('HGET', account, 'k:' .. hold)
  if not packed then return end
  for feature, segment, hi, lo in string.gmatch(packed, '|([^,|]+),(%d+),(-?%d+):(%d+)') do
    shift(account, 'h:' .. feature .. ':' .. segment, tonumber(hi), tonumber(lo), -1)
  end
  redis.call('HDEL', account, 'k:' .. hold)
  redis.call('ZREM', deadlines, hold)
end
