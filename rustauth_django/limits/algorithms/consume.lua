-- Decides several limits in one step: all of them count, or none does. Before this file stand
-- bucket.lua, `local steps = {}` and the algorithms, each put into `steps` by its name.
--
-- KEYS     the bucket of each limit
-- ARGV[1]  now in epoch ms, or "" for this server's own clock
-- ARGV[2]  cost: above zero spends, zero only looks, below zero gives back
-- ARGV[3]  how much longer than it has to a bucket is kept, in ms
-- ARGV[..] for each limit: its algorithm, its rule's field ("" for RustAuth's two) and its
--          rule's numbers, packed
-- Reply    the decision on each limit, packed, one after the other: permitted 0 or 1, used,
--          retry ms, reset ms

-- With room for two limits: a table that grows costs more than one that is made in its size.
local permit, reply, states, keeps = true, '', {false, false}, {false, false}
for i = 1, #KEYS do
  local at = 3 * i + 1
  local state, failure = read(KEYS[i], ARGV[at + 1], i)
  if failure then
    return failure
  end
  local permitted, used, retry, reset
  permitted, used, retry, reset, states[i], keeps[i] =
    steps[ARGV[at]](state, now, cost, ARGV[at + 2])
  reply = reply .. struct.pack(REPLY, permitted, used, retry, reset)
  permit = permit and permitted == 1
end
if cost == 0 then
  return reply
end
local longest
for i = 1, #KEYS do
  local key = KEYS[i]
  if permit and states[i] then
    write(key, ARGV[3 * i + 2], states[i])
  end
  longest = keeps[i] and math.max(keeps[i], longest or 0) or longest
  -- Once for all limits in a row that are in one bucket.
  if longest and key ~= KEYS[i + 1] then
    prolong(key, longest + margin, permit and cost > 0)
    longest = nil
  end
end
return reply
