-- Decides several limits in one step: all of them count, or none does. Before this file
-- stand those of the algorithms, and before these `local algorithms = {}` and the divisions.
--
-- KEYS     the buckets: hashes with a field for each rule, or RustAuth's own
--          `count` and `last_request`
-- ARGV[1]  now in epoch ms, or "" for this server's own clock
-- ARGV[2]  cost: above zero spends, zero only looks, below zero gives back
-- ARGV[3]  how much longer than it has to a bucket is kept, in ms
-- ARGV[..] for each limit: the number of its key, its algorithm, its field ("" for
--          RustAuth's two), how many numbers follow, and the numbers of its rule
-- Reply    for each limit {permitted 0 or 1, used, retry ms, reset ms}

-- Times beyond this are not exact in a double, and not of interest.
local LATEST = 2 ^ 53

local now, cost, margin = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Anything but plain integers that a double holds exactly, as many as there should be,
-- counts as nothing.
local function integers(texts, size)
  local found = {}
  for _, text in ipairs(texts) do
    if #text > 16 or not string.find(text, '^%d+$') then
      return {}
    end
    found[#found + 1] = tonumber(text)
  end
  return #found == (size or #found - #found % 2) and found or {}
end

local function read(key, field, size)
  local reply = field == '' and redis.pcall('HMGET', key, 'count', 'last_request')
    or redis.pcall('HGET', key, field)
  if type(reply) == 'table' and reply.err then
    return nil, reply
  end
  local texts = {}
  if field == '' then
    texts = reply[1] and reply[2] and reply or texts
  elseif reply then
    for text in string.gmatch(reply, '%S+') do
      texts[#texts + 1] = text
    end
  end
  return integers(texts, size)
end

local function write(key, field, state)
  local texts = {}
  for i, number in ipairs(state) do
    texts[i] = string.format('%.0f', number)
  end
  if field == '' then
    redis.call('HSET', key, 'count', texts[1], 'last_request', texts[2])
  else
    redis.call('HSET', key, field, table.concat(texts, ' '))
  end
end

local limits, at, permitted = {}, 4, true
while at <= #ARGV do
  local number, count = tonumber(ARGV[at]), tonumber(ARGV[at + 3])
  local key, field, algorithm = KEYS[number], ARGV[at + 2], algorithms[ARGV[at + 1]]
  local state, failure = read(key, field, algorithm.size)
  if failure then
    if string.find(failure.err, 'WRONGTYPE', 1, true) then
      -- Nothing but these hashes belongs in this namespace: drop what is here, so
      -- that the next request starts a bucket, and let this one fail.
      redis.call('UNLINK', key)
      return redis.error_reply('WRONGTYPE not a rate limit bucket; removed number ' .. number)
    end
    return failure
  end
  local numbers = {}
  for i = 1, count do
    numbers[i] = tonumber(ARGV[at + 3 + i])
  end
  local outcome, new_state, keep = algorithm.step(state, now, cost, unpack(numbers))
  outcome[3], outcome[4] = math.min(outcome[3], LATEST), math.min(outcome[4], LATEST)
  permitted = permitted and outcome[1] == 1
  limits[#limits + 1] = {key, field, outcome, new_state, keep}
  at = at + 4 + count
end

local reply = {}
for i, limit in ipairs(limits) do
  local key, field, outcome, new_state, keep = unpack(limit, 1, 5)
  if cost ~= 0 and keep then
    if permitted and new_state then
      write(key, field, new_state)
    end
    -- A bucket without a TTL gets one, and none gets a shorter one: rules of different
    -- windows meet in it.
    local ttl = math.min(keep + margin, LATEST)
    if redis.call('PTTL', key) < (permitted and cost > 0 and ttl or 0) then
      redis.call('PEXPIRE', key, string.format('%.0f', ttl))
    end
  end
  reply[i] = outcome
end
return reply
