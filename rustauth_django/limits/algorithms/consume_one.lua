-- Decides one limit. Before this file stand bucket.lua and that of the algorithm.
--
-- KEYS[1]  the bucket
-- ARGV[1]  now in epoch ms, or "" for this server's own clock
-- ARGV[2]  cost: above zero spends, zero only looks, below zero gives back
-- ARGV[3]  how much longer than needed a bucket stays, in ms
-- ARGV[4]  the rule's field, "" for RustAuth's two
-- ARGV[5]  the rule's numbers, packed
-- Reply    the decision, packed: permitted 0 or 1, used, retry ms, reset ms, counted at (ms)

local key, field = KEYS[1], ARGV[4]
local state, failure = read(key, field, 1)
if failure then
  return failure
end
local permitted, used, retry, reset, new_state, keep_ms, at = step(state, now, cost, ARGV[5])
if keep_ms and cost ~= 0 then
  if new_state then
    write(key, field, new_state)
  end
  prolong(key, keep_ms + margin, permitted == 1 and cost > 0)
end
return struct.pack(REPLY, permitted, used, retry, reset, at or 0)
