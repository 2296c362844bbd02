-- Remove a key if it holds the value that the caller expects.
--
-- KEYS[1]  the key
-- ARGV[1]  the value expected
-- Reply    1 if it was removed, else 0

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
