-- What the scripts on sessions share: the index of a user's sessions, and the hash with what Django
-- adds to a session.

-- The tokens of an index, each once; none of one that is corrupt or no text at all.
local function read_index(key)
  local text = redis.pcall('GET', key)
  local ok, found = pcall(cjson.decode, type(text) == 'string' and text or '[]')
  local tokens, seen = {}, {}
  for _, token in ipairs(ok and type(found) == 'table' and found or {}) do
    if type(token) == 'string' and not seen[token] then
      seen[token] = true
      tokens[#tokens + 1] = token
    end
  end
  return tokens, seen
end

-- JSON without the escapes of "/" that cjson writes and serde does not.
local function write_index(key, tokens, ...)
  redis.call('SET', key, (string.gsub(cjson.encode(tokens), '\\/', '/')), ...)
end

-- Add a token, in the place of another one if that is given. The index lives at least as long as
-- the session. Returns how many tokens it has, 0 if it had this one.
local function add_token(key, token, ttl, before)
  local tokens, seen = read_index(key)
  local longest = math.max(redis.call('PTTL', key), tonumber(ttl))
  if seen[token] then
    redis.call('PEXPIRE', key, string.format('%.0f', longest))
    return 0
  end
  local place = #tokens + 1
  for index, other in ipairs(tokens) do
    if other == before then
      place = index
    end
  end
  tokens[place] = token
  write_index(key, tokens, 'PX', string.format('%.0f', longest))
  return #tokens
end

-- Write fields and values, the arguments from this one on, with a TTL for the whole hash.
local function write_hash(key, ttl, first)
  local reply = redis.pcall('HSET', key, unpack(ARGV, first))
  if type(reply) ~= 'number' then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', key)
    end
    redis.call('HSET', key, unpack(ARGV, first))
  end
  redis.call('PEXPIRE', key, ttl)
end
