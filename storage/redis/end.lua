-- Begin to end a reservation. All it holds stays held, and what exceeds it is held beside it.
--
-- KEYS: account, deadlines, expiries, reservation.
-- ARGV: epoch, now, lapse up to, hold, kind, digest, deadline, lifetime (ms), request,
--       then per slot what judge reads, and how much of the hold is used.
-- Replies: as decide; {'known', kind, at, confirmed, request, balances, lapses}; {'reused'} ended
--          otherwise; {'expired'}; 'decided' has the left after giving back what is not used.

local account, deadlines, expiries, reservation = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local hold, pending = ARGV[4], ARGV[4] .. '+'
local FIRST, WIDTH = 10, 8

if redis.call('HGET', account, 'e') ~= ARGV[1] then return {'lost'} end
sweep(account, deadlines, expiries, ARGV[2], ARGV[3])

local known = redis.call('HMGET', reservation, 'd', 'e', 't', 'c', 'q', 'r')
if known[1] and (known[4] or redis.call('ZSCORE', deadlines, pending)) then
  if known[1] ~= ARGV[6] then return {'reused'} end
  local lapses = redis.call('ZSCORE', deadlines, pending) or ''
  return {'known', known[2], known[3], known[4] or '', known[5] or '', known[6], lapses}
end
local packed = redis.call('HGET', account, 'k:' .. hold)
if not packed then return {'expired'} end
if redis.call('ZSCORE', deadlines, hold) then return {'unseeded'} end -- its HOLD is not durable yet

local reply = judge(account, FIRST, WIDTH)
if reply[1] ~= 'decided' or reply[2] == '0' then return reply end

local balances, excess = {}, {}
for i = FIRST, #ARGV, WIDTH do
  local slot = (i - FIRST) / WIDTH
  local free_hi, free_lo = pair(reply[5 + 3 * slot])
  for feature, segment, hi, lo in string.gmatch(packed, ENTRY) do
    if feature == ARGV[i] and segment == ARGV[i + 2] then
      free_hi, free_lo = plus(free_hi, free_lo, tonumber(hi), tonumber(lo))
    end
  end
  if string.find(packed, '|' .. ARGV[i] .. ',' .. ARGV[i + 2] .. ',', 1, true) then
    free_hi, free_lo = minus(free_hi, free_lo, pair(ARGV[i + 7]))
  end
  reply[5 + 3 * slot] = text(free_hi, free_lo)
  balances[slot + 1] = ARGV[i + 3] == 'unlimited' and '-' or reply[5 + 3 * slot]
  local hi, lo = pair(ARGV[i + 6])
  if hi ~= 0 or lo ~= 0 then
    hold_units(account, ARGV[i], ARGV[i + 2], hi, lo, 1)
    excess[#excess + 1] = '|' .. ARGV[i] .. ',' .. ARGV[i + 2] .. ',' .. ARGV[i + 6]
  end
end
redis.call('HSET', account, 'k:' .. pending, ARGV[2] .. table.concat(excess))
redis.call('ZADD', deadlines, ARGV[7], pending)
redis.call('ZREM', expiries, hold)
redis.call('HSET', reservation, 'd', ARGV[6], 'e', ARGV[5], 't', ARGV[2], 'q', ARGV[9],
  'r', table.concat(balances, ' '))
redis.call('PEXPIRE', reservation, ARGV[8])
return reply
