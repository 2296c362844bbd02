-- Store a value if the key holds what the caller expects.
--
-- KEYS[1]  the key
-- ARGV[1]  "1" if the key is expected to be absent, else "0"
-- ARGV[2]  the value expected, when it is not
-- ARGV[3]  the new value
-- ARGV[4]  TTL in ms, or "" for none
-- Reply    1 if it was stored, else 0

local current = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if current then
    return 0
  end
elseif current ~= ARGV[2] then
  return 0
end
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
