-- Replace what is filed for some features of one account, at once.
--
-- KEYS: as apply.
-- ARGV: epoch, mode (wipe: empty the account first; new: it may not exist yet; kept: it must exist:
--       a hold could be lost with it), lifetime of a key (ms), now,
--       version (a number never used before: openings computed from what was there are void),
--       number of positions, then per position: node, seq;
--       number of features, then per feature: feature, digest ("" gone), number of starts,
--         starts..., number of totals, then per total: segment, amount;
--       then settled keys, opened and ended reservations as in apply.
-- Replies: 'lost' (the account is gone or of another epoch), 'done'.

local account, deadlines, expiries = KEYS[1], KEYS[2], KEYS[3]
local cursor = 0
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end

local function starts_with(name, prefix)
  return string.sub(name, 1, #prefix) == prefix and tonumber(string.sub(name, #prefix + 1)) ~= nil
end

-- The last of the sorted starts that is not after the instant; the given one if all are.
local function filed_at(starts, instant, otherwise)
  for i = #starts, 1, -1 do
    if tonumber(starts[i]) <= instant then return starts[i] end
  end
  return otherwise
end

local function refile_holds(feature, starts)
  local entries = redis.call('HGETALL', account)
  for i = 1, #entries, 2 do
    local name, packed = entries[i], entries[i + 1]
    if string.sub(name, 1, 2) == 'k:' then
      local made = tonumber(string.match(packed, '^%d+'))
      local filed = string.gsub(packed, '|([^,|]+),(%d+),([^|]+)', function(held, segment, amount)
        if held ~= feature then return nil end
        segment = filed_at(starts, made, segment)
        local hi, lo = pair(amount)
        shift(account, 'h:' .. feature .. ':' .. segment, hi, lo, 1)
        return '|' .. held .. ',' .. segment .. ',' .. amount
      end)
      redis.call('HSET', account, name, filed)
    end
  end
end

local epoch, mode, lifetime, now, version = take(), take(), take(), take(), take()
if mode == 'wipe' then
  redis.call('DEL', account, deadlines, expiries)
elseif mode == 'kept' or redis.call('EXISTS', account) == 1 then
  if redis.call('HGET', account, 'e') ~= epoch then return 'lost' end
end
redis.call('HSET', account, 'e', epoch)
for _ = 1, tonumber(take()) do
  local node = take()
  redis.call('HSET', account, 'p:' .. node, take())
end

for _ = 1, tonumber(take()) do
  local feature, digest = take(), take()
  for _, name in ipairs(redis.call('HKEYS', account)) do
    if starts_with(name, 'u:' .. feature .. ':') or starts_with(name, 'h:' .. feature .. ':') then
      redis.call('HDEL', account, name)
    end
  end
  redis.call('HDEL', account, 'c:' .. feature)
  redis.call('HSET', account, 'v:' .. feature, version)
  local starts = {}
  for i = 1, tonumber(take()) do starts[i] = take() end
  for _ = 1, tonumber(take()) do
    local segment = take()
    redis.call('HSET', account, 'u:' .. feature .. ':' .. segment, take())
  end
  if digest == '' then
    redis.call('HDEL', account, 'g:' .. feature)
  else
    redis.call('HSET', account, 'g:' .. feature, digest)
  end
  refile_holds(feature, starts)
end

file_records(account, deadlines, expiries, now, lifetime, take)
return 'done'
