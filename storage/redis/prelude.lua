-- Put before every script. All keys of one call share one {customer} hash tag.
--
-- Account (hash):  e             epoch it was filled under
--                  p:<node>      last record of the node's log applied
--                  g:<feature>   digest of the schedule its usage is filed under
--                  v:<feature>   changes to segments before the current one
--                  c:<feature>   that current segment's start
--                  x             reservations up to here have expired: clocks may step back, but
--                                units that returned may be sold, and are not held again
--                  u:<feature>:<segment>  used,  h:<feature>:<segment>  held
--                  k:<hold>      an open hold: "<made>[;<expires>]|<feature>,<segment>,<amount>|..."
-- Deadlines (sorted set): hold -> instant at which it may lapse, once the log has passed it.
--                  Holds whose record is durable are not in it.
-- Expiries (sorted set): durable reservation -> instant at which its units return.
-- Reservation (hash): m made, x expires, i what reserve left; once it ends: e settle or release,
--                  d digest, t at, r balances, and q what to record until that is durable (c).
--                  Until then the hold "<reservation>+" has what exceeds the reservation.
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

-- Add to what is held, or with sign < 0 take from it. Later segments count it as used.
local function hold_units(account, feature, segment, hi, lo, sign)
  shift(account, 'h:' .. feature .. ':' .. segment, hi, lo, sign)
  local current = redis.call('HGET', account, 'c:' .. feature)
  if current and tonumber(segment) < tonumber(current) then
    redis.call('HINCRBY', account, 'v:' .. feature, 1)
  end
end

local ENTRY = '|([^,|]+),(%d+),(-?%d+):(%d+)'

-- End a hold: what it held is free again. Does nothing for one that is not open.
local function release(account, deadlines, expiries, hold)
  local packed = redis.call('HGET', account, 'k:' .. hold)
  if packed then
    for feature, segment, hi, lo in string.gmatch(packed, ENTRY) do
      hold_units(account, feature, segment, tonumber(hi), tonumber(lo), -1)
    end
    redis.call('HDEL', account, 'k:' .. hold)
  end
  redis.call('ZREM', deadlines, hold)
  redis.call('ZREM', expiries, hold)
end

-- End what lapsed and what expired.
local function sweep(account, deadlines, expiries, now, lapse)
  local late = redis.call('ZRANGEBYSCORE', deadlines, '-inf', lapse, 'LIMIT', 0, 1000)
  for _, lapsed in ipairs(late) do
    release(account, deadlines, expiries, lapsed)
    if string.sub(lapsed, -1) == '+' then
      -- The end of a reservation never became durable: it is open again, until its deadline.
      local reserved = string.sub(lapsed, 1, -2)
      local packed = redis.call('HGET', account, 'k:' .. reserved)
      local expires = packed and string.match(packed, '^%d+;(%d+)')
      if expires then redis.call('ZADD', expiries, expires, reserved) end
    end
  end
  late = redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 1000)
  for _, expired in ipairs(late) do release(account, deadlines, expiries, expired) end
  if #late > 0 and tonumber(now) > tonumber(redis.call('HGET', account, 'x') or '0') then
    redis.call('HSET', account, 'x', now)
  end
end

-- Compare slots with what is left: from ARGV[first] on, width apart: feature, schedule, segment,
-- gate, opening, version ("" none), amount. A slot without schedule has nothing left at all.
-- Answers {'decided', allowed, per slot: passed, left before, left after}, or why not.
local function judge(account, first, width)
  local reply, taken = {'decided', '1'}, {}
  for i = first, #ARGV, width do
    local feature, segment, version = ARGV[i], ARGV[i + 2], ARGV[i + 5]
    local place = feature .. ':' .. segment
    local hi, lo = pair(ARGV[i + 4])
    local before = taken[place] or {0, 0}
    if ARGV[i + 1] ~= '' then
      local filed = redis.call('HMGET', account,
        'g:' .. feature, 'c:' .. feature, 'v:' .. feature, 'u:' .. place, 'h:' .. place)
      if filed[1] ~= ARGV[i + 1] then return {'unseeded'} end
      local current = tonumber(filed[2] or '-1')
      if tonumber(segment) < current then return {'behind', filed[2]} end
      if version ~= '' then
        if tonumber(segment) > current then
          -- What was current is history from here on, and may have changed since it was read.
          redis.call('HSET', account, 'c:' .. feature, segment)
          redis.call('HINCRBY', account, 'v:' .. feature, 1)
          return {'stale'}
        end
        if (filed[3] or '0') ~= version then return {'stale'} end
      end
      hi, lo = minus(hi, lo, pair(filed[4]))
      hi, lo = minus(hi, lo, pair(filed[5]))
      hi, lo = minus(hi, lo, before[1], before[2])
    end
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
  end
  return reply
end

-- File a reservation of the log: what it holds is held, unless it ended or its deadline passed.
-- ``entries`` is "|<feature>,<segment>,<amount>|...".
local function file_opened(account, deadlines, expiries, reservation, hold, opened)
  local pending = redis.call('ZSCORE', deadlines, hold .. '+')
  redis.call('HSET', reservation, 'm', opened.made, 'x', opened.expires, 'i', opened.request)
  redis.call('PEXPIRE', reservation, opened.lifetime)
  redis.call('ZREM', deadlines, hold)
  if pending or redis.call('HGET', reservation, 'c') then return end
  if redis.call('HEXISTS', account, 'k:' .. hold) == 0 then
    local past = tonumber(redis.call('HGET', account, 'x') or '0')
    if math.max(tonumber(opened.now), past) >= tonumber(opened.expires) then return end
    for feature, segment, hi, lo in string.gmatch(opened.entries, ENTRY) do
      hold_units(account, feature, segment, tonumber(hi), tonumber(lo), 1)
    end
    redis.call('HSET', account, 'k:' .. hold,
      opened.made .. ';' .. opened.expires .. opened.entries)
  end
  redis.call('ZADD', expiries, opened.expires, hold)
end

-- File the end of a reservation: nothing of it is held any more.
local function file_ended(account, deadlines, expiries, reservation, hold, ended)
  release(account, deadlines, expiries, hold)
  release(account, deadlines, expiries, hold .. '+')
  redis.call('HDEL', reservation, 'q')
  redis.call('HSET', reservation, 'e', ended.kind, 'd', ended.digest, 't', ended.at,
    'r', ended.balances, 'c', '1')
  redis.call('PEXPIRE', reservation, ended.lifetime)
end

-- File keys, reservations and ends: KEYS from 4 on, arguments by ``take``.
local function file_records(account, deadlines, expiries, now, lifetime, take)
  local k = 3
  local function file_key(hold)
    k = k + 1
    local digest, made, balances = take(), take(), take()
    redis.call('HDEL', KEYS[k], 'q')
    redis.call('HSET', KEYS[k], 'h', hold, 'd', digest, 't', made, 'r', balances, 'c', '1')
    redis.call('PEXPIRE', KEYS[k], lifetime)
    return made
  end
  for _ = 1, tonumber(take()) do
    local hold = take()
    release(account, deadlines, expiries, hold)
    file_key(hold)
  end
  for _ = 1, tonumber(take()) do
    local hold = take()
    local opened = {now = now, made = file_key(hold)}
    for _, name in ipairs({'expires', 'request', 'entries', 'lifetime'}) do opened[name] = take() end
    k = k + 1
    file_opened(account, deadlines, expiries, KEYS[k], hold, opened)
  end
  for _ = 1, tonumber(take()) do
    k = k + 1
    local hold, ended = take(), {lifetime = lifetime}
    for _, name in ipairs({'kind', 'digest', 'at', 'balances'}) do ended[name] = take() end
    file_ended(account, deadlines, expiries, KEYS[k], hold, ended)
  end
end
