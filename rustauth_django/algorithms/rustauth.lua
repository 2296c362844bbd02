-- The RustAuth window, decided in one step. rustauth.py says what it means.
--
-- KEYS[1]  the bucket: a hash of `count` and `last_request` (epoch ms)
-- ARGV[1]  now in epoch ms, or "" for this server's own clock
-- ARGV[2]  window in ms
-- ARGV[3]  most requests permitted
-- ARGV[4]  TTL in ms of a bucket that was written
-- ARGV[5]  cost: above zero spends, zero only looks, below zero gives back
-- Reply    {permitted 0 or 1, count, last_request, now}

local key = KEYS[1]
local window, limit, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local cost = tonumber(ARGV[5])

-- Anything but a plain integer that a double holds exactly counts as missing.
local function integer(text)
  if text and #text < 16 and string.find(text, '^%d+$') then
    return tonumber(text)
  end
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local state = redis.pcall('HMGET', key, 'count', 'last_request')
if state.err then
  if string.find(state.err, 'WRONGTYPE', 1, true) then
    -- Nothing but these hashes belongs in this namespace: drop what is here, so
    -- that the next request starts a bucket, and let this one fail.
    redis.call('UNLINK', key)
    return redis.error_reply('WRONGTYPE not a rate limit bucket; removed')
  end
  return state
end

local count, last = integer(state[1]), integer(state[2])
if count and last then
  now = math.max(now, last)
end
if not (count and last) or now - last > window then
  count, last = 0, now
end

-- A bucket without a TTL gets one, and none gets a shorter one: rules of different
-- windows may meet in it.
local function keep_for(least)
  if redis.call('PTTL', key) < least then
    redis.call('PEXPIRE', key, ttl)
  end
end

if cost < 0 then
  -- What was spent in an earlier window is not there to be given back.
  if count > 0 then
    count = math.max(0, count + cost)
    redis.call('HSET', key, 'count', string.format('%.0f', count))
    keep_for(0)
  end
elseif cost == 0 then
  return {count < limit and 1 or 0, count, last, now}
elseif count > 0 and count + cost > limit then
  keep_for(0)
  return {0, count, last, now}
else
  count, last = count + cost, now
  redis.call('HSET', key, 'count', string.format('%.0f', count),
    'last_request', string.format('%.0f', last))
  keep_for(tonumber(ttl))
end
return {1, count, last, now}
