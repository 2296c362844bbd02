-- Give a session a new token, if it is still there; sessions.lua stands before.
--
-- KEYS     its record, its hash, the new record, the new hash; its user's index, if it has one
-- ARGV[1]  the old token
-- ARGV[2]  the new token
-- ARGV[3]  the TTL in ms
-- ARGV[4]  the new record
-- ARGV[5]  from here on: fields of the new hash, each with its value
-- Reply    1 if it was there, else 0

if string.sub(redis.call('HGET', KEYS[2], 'state') or '', 1, 4) == 'fill' then
  return 0 -- what was filled in is nothing yet
end
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[3])
write_hash(KEYS[4], ARGV[3], 5)
if KEYS[5] then
  add_token(KEYS[5], ARGV[2], ARGV[3], ARGV[1])
end
return 1
