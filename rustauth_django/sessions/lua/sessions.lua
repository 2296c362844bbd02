-- What the scripts on the index of a user's sessions share: a JSON array of tokens.

-- Its tokens, each once; none of an index that is corrupt or no text at all.
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
