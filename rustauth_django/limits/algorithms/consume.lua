-- Decides several limits in one step: all of them count, or none does. Before this file stand
-- bucket.lua, `local steps = {}` and the algorithms, each put into `steps` by its name.
--
-- KEYS     the bucket of each limit
-- ARGV[1]  now in epoch ms, or "" for this server's own clock
-- ARGV[2]  cost: above zero spends, zero only looks, below zero gives back
-- ARGV[3]  how much longer than needed a bucket stays, in ms
-- ARGV[..] for each limit: its algorithm, its rule's field ("" for RustAuth's two), the field of
--          attempts that are under way ("" if none is kept) and its rule's numbers, packed
-- Reply    the decision on each limit, packed, one after the other: permitted 0 or 1, used,
--          retry ms, reset ms, counted at (ms)

-- Adds an attempt to the list, and drops those that are older than a window.
local function note(key, field, at, window)
  local times = redis.call('HGET', key, field)
  -- A garbled list counts as empty.
  times = times and #times % 6 == 0 and times or ''
  local start = 1
  while start <= #times and struct.unpack('>I6', times, start) <= at - window do
    start = start + 6
  end
  times = string.sub(times, start) .. string.rep(struct.pack('>I6', at), cost)
  redis.call('HSET', key, field, times)
end

-- With room for two limits: a table of the right size is cheaper than one that grows.
local permit, reply = true, ''
local states, keeps, times = {false, false}, {false, false}, {false, false}
for i = 1, #KEYS do
  local n = 4 * i
  local state, failure = read(KEYS[i], ARGV[n + 1], i)
  if failure then
    return failure
  end
  local permitted, used, retry, reset
  permitted, used, retry, reset, states[i], keeps[i], times[i] =
    steps[ARGV[n]](state, now, cost, ARGV[n + 3])
  reply = reply .. struct.pack(REPLY, permitted, used, retry, reset, times[i] or 0)
  permit = permit and permitted == 1
end
if cost == 0 then
  return reply
end
local longest
for i = 1, #KEYS do
  local key, n = KEYS[i], 4 * i
  if permit and states[i] then
    write(key, ARGV[n + 1], states[i])
    if cost > 0 and ARGV[n + 2] ~= '' then
      note(key, ARGV[n + 2], times[i], struct.unpack('>I8', ARGV[n + 3]))
    end
  end
  longest = keeps[i] and math.max(keeps[i], longest or 0) or longest
  -- One write for consecutive limits that share a bucket.
  if longest and key ~= KEYS[i + 1] then
    prolong(key, longest + margin, permit and cost > 0)
    longest = nil
  end
end
return reply
