-- Store a session and see to it that its user's index has it; sessions.lua stands before.
--
-- KEYS     the session's key, if it is to be stored; the index
-- ARGV[1]  its token
-- ARGV[2]  its TTL in ms
-- ARGV[3]  its value
-- ARGV[4]  "NX" or "XX": only if the key is absent, only if it is present
-- Reply    how many tokens the index has, 0 if it had this one, -1 if nothing was stored

local index = KEYS[#KEYS]
if #KEYS == 2 and not redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2], ARGV[4]) then
  return -1
end
local tokens, seen = read_index(index)
local ttl = math.max(redis.call('PTTL', index), tonumber(ARGV[2]))
if seen[ARGV[1]] then
  redis.call('PEXPIRE', index, string.format('%.0f', ttl))
  return 0
end
tokens[#tokens + 1] = ARGV[1]
write_index(index, tokens, 'PX', string.format('%.0f', ttl))
return #tokens
