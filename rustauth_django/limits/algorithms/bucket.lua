-- What the scripts share: reading and writing a bucket. It is a hash that has a field of packed
-- bytes for each rule, or RustAuth's own `count` and `last_request`, which are text.

-- The state in a field or in RustAuth's two; false if there is none. On an error: nil, and the
-- script's reply. Only buckets belong in this namespace, so a key of another type is removed: this
-- request fails, and the next one starts a bucket. `number` says which of KEYS it was.
local function read(key, field, number)
  local state = field == '' and redis.pcall('HMGET', key, 'count', 'last_request')
    or redis.pcall('HGET', key, field)
  if type(state) ~= 'table' or not state.err then
    return state
  end
  if string.find(state.err, 'WRONGTYPE', 1, true) then
    redis.call('UNLINK', key)
    state = redis.error_reply('WRONGTYPE not a rate limit bucket; removed number ' .. number)
  end
  return nil, state
end

-- A decision as it goes into the reply: one text costs the server less than four numbers do.
local REPLY = '>BI8I8I8I8'

-- Numbers stay numbers here: the server writes them exactly, where Lua's own text would be rounded.
local function write(key, field, state)
  if field == '' then
    redis.call('HSET', key, 'count', state[1], 'last_request', state[2])
  else
    redis.call('HSET', key, field, state)
  end
end

-- A bucket without a TTL gets one. A longer TTL stays, since rules with other windows may share the
-- bucket.
local function prolong(key, ttl, is_spent)
  if redis.call('PTTL', key) < (is_spent and ttl or 0) then
    redis.call('PEXPIRE', key, ttl)
  end
end

local now, cost, margin = ARGV[1], ARGV[2] + 0, ARGV[3] + 0
if now == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now = now + 0
end
