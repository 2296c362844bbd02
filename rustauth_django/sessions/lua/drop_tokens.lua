-- Take tokens out of the index of a user's sessions; sessions.lua stands before.
--
-- KEYS[1]  the index
-- ARGV     the tokens
-- Reply    how many of them were in it

local dropped, left = {}, {}
for _, token in ipairs(ARGV) do
  dropped[token] = true
end
local tokens = read_index(KEYS[1])
for _, token in ipairs(tokens) do
  if not dropped[token] then
    left[#left + 1] = token
  end
end
if #left == 0 then
  redis.call('DEL', KEYS[1])
elseif #left < #tokens then
  write_index(KEYS[1], left, 'KEEPTTL')
end
return #tokens - #left
