-- Write a session: its record, its hash and its user's index; sessions.lua stands before.
--
-- KEYS     those that ARGV[1] names
-- ARGV[1]  "r" for the record, "h" for the hash, "i" for the index, or some of them in this order
-- ARGV[2]  how: "NX" writes the record if there is none, "XX" if there is one; "TOUCH" writes its
--          two times and "KEEP" nothing of it, if it is there. A record that was filled in counts
--          as none, but "FILL" overwrites it and "CONFIRM" says that it stays
-- ARGV[3]  the token
-- ARGV[4]  the TTL in ms
-- ARGV[5]  the record; with "TOUCH" its new expires_at
-- ARGV[6]  with "TOUCH" its new updated_at; with "CONFIRM" the state that the hash must have
-- ARGV[7]  with "TOUCH" the seen_at that the hash must have: otherwise somebody else has written
-- ARGV[8]  from here on: fields of the hash, each with its value
-- Reply    how many tokens the index has, 0 if it had this one, -1 if nothing was written

local which, how, token, ttl, value = unpack(ARGV)
local number = 0
local function key_of(kind)
  if string.find(which, kind, 1, true) then
    number = number + 1
    return KEYS[number]
  end
end
local record, hash, index = key_of('r'), key_of('h'), key_of('i')

if hash and how ~= 'NX' then
  local fields = redis.call('HMGET', hash, 'state', 'seen_at')
  local state, seen_at = fields[1] or '', fields[2]
  local is_filled = string.sub(state, 1, 4) == 'fill'
  if how == 'CONFIRM' and state ~= ARGV[6] then
    return -1
  elseif how == 'FILL' and state ~= '' and not is_filled
      and not (record and redis.call('EXISTS', record) == 0) then
    return -1 -- without a record it would be nothing
  elseif is_filled and how ~= 'FILL' and how ~= 'CONFIRM' then
    return -1 -- what was filled in is nothing yet
  elseif how == 'TOUCH' and seen_at ~= ARGV[7] then
    return -1
  end
end
if record and how == 'KEEP' then
  if redis.call('PTTL', record) == -2 then
    return -1
  end
elseif record and how == 'CONFIRM' then
  if redis.call('PEXPIRE', record, ttl) == 0 then
    return -1
  end
elseif record and how == 'TOUCH' then
  local text, found, changed = redis.pcall('GET', record)
  if type(text) ~= 'string' then
    return -1
  end
  text, found = string.gsub(text, '"expires_at":%s*"[^"]*"', '"expires_at":"' .. value .. '"', 1)
  text, changed = string.gsub(text, '"updated_at":%s*"[^"]*"', '"updated_at":"' .. ARGV[6] .. '"', 1)
  if found + changed < 2 then
    return -1
  end
  redis.call('SET', record, text, 'PX', ttl)
elseif record and how == 'FILL' then
  redis.call('SET', record, value, 'PX', ttl)
elseif record and not redis.call('SET', record, value, 'PX', ttl, how) then
  return -1
end
if hash and how == 'CONFIRM' then
  redis.call('HSET', hash, 'state', 'row')
  redis.call('PEXPIRE', hash, ttl)
elseif hash then
  write_hash(hash, ttl, 8)
end
return index and add_token(index, token, ttl) or 0
