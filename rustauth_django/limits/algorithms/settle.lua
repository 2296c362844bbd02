-- Ends attempts that were counted before their results were known. Before this file stand
-- bucket.lua, `local steps = {}` and the algorithms, each put into `steps` by its name.
--
-- KEYS     the bucket of each attempt
-- ARGV[1]  "", ARGV[2] the cost of each, ARGV[3] 0
-- ARGV[..] for each attempt: its algorithm, its rule's field ("" for RustAuth's two), the field of
--          attempts that are under way ("" if none is kept), its rule's numbers, packed, the time at
--          which it was counted, and how it ends:
--          "undo"     the state becomes as if the attempt had never come
--          "keep"     the attempt goes on counting, and is not under way any more
--          "forgive"  everything is forgotten but the other attempts that are under way
-- Reply    how many attempts changed anything

local pack, unpack = struct.pack, struct.unpack

-- `times`, six bytes each, without so many that equal `at`; nil if there is none.
local function without(times, at, cost)
  local start, time = 1, pack('>I6', at)
  while string.sub(times, start, start + 5) ~= time do
    start = start + 6
    if start > #times then
      return nil
    end
  end
  local stop = start
  while stop < start + 6 * cost and string.sub(times, stop, stop + 5) == time do
    stop = stop + 6
  end
  return string.sub(times, 1, start - 1) .. string.sub(times, stop)
end

-- The `undo` of each algorithm, as in its .py: the state without a request; nil if the request does
-- not count any more, '' if nothing is left.
local undo = {}

undo['fixed-window'] = function(state, at, numbers)
  local start, count = unpack('>I6I7', state, 2)
  if at < start or at - start >= unpack('>I8', numbers) then
    return nil
  end
  return count > cost and pack('>BI6I7', 1, start, count - cost) or ''
end

undo['gcra'] = function(state, at, numbers)
  local window, _, rate = unpack('>I8I8I8', numbers)
  local level, last = unpack('>I7I6', state, 2)
  if at > last then
    return nil
  end
  level = level - math.max(0, cost * window - (last - at) * rate)
  return level > 0 and pack('>BI7I6', 1, level, last) or ''
end

undo['lockout'] = function(state, at, numbers)
  local _, limit = unpack('>I8I8', numbers)
  local level, until_ms, before = unpack('>I2I7I7', state, 2)
  local times = string.sub(state, 18)
  local left = without(times, at, cost)
  if not left then
    return nil
  end
  if #times >= 6 * limit then
    level, until_ms = math.max(0, level - 1), before
  end
  return (left ~= '' or level > 0) and pack('>BI2I7I7', 2, level, until_ms, before) .. left or ''
end

undo['rustauth'] = function(state, at, numbers)
  local count, last = integer(state[1]), integer(state[2])
  if not (count and last) or last < at or last - at > unpack('>I8', numbers) then
    return nil
  end
  return count > cost and {count - cost, last} or ''
end

undo['sliding-log'] = function(state, at)
  local left = without(string.sub(state, 2), at, cost)
  return left and (left == '' and '' or '\1' .. left)
end

undo['sliding-window'] = function(state, at, numbers)
  local window = unpack('>I8', numbers)
  local start, count, before = unpack('>I6I7I7', state, 2)
  if at >= start and at - start < window then
    count = math.max(0, count - cost)
  elseif at < start and start - at <= window then
    before = math.max(0, before - cost)
  else
    return nil
  end
  return (count > 0 or before > 0) and pack('>BI6I7I7', 1, start, count, before) or ''
end

-- The size of each algorithm's state, or of its head, and the byte that it begins with.
local sizes = {['fixed-window'] = 14, gcra = 14, ['sliding-window'] = 21}
local function is_known(algorithm, state)
  if algorithm == 'rustauth' or sizes[algorithm] then
    return algorithm == 'rustauth' or #state == sizes[algorithm] and string.byte(state) == 1
  end
  local head, format = 1, 1
  if algorithm == 'lockout' then
    head, format = 17, 2
  end
  return #state >= head and (#state - head) % 6 == 0 and string.byte(state) == format
end

local function keep(key, field, state)
  if state ~= '' then
    write(key, field, state)
  elseif field == '' then
    redis.call('HDEL', key, 'count', 'last_request')
  else
    redis.call('HDEL', key, field)
  end
end

local function is_same(field, state, new_state)
  if field == '' then
    return state[1] == (new_state[1] or false) and state[2] == (new_state[2] or false)
  end
  return (state or '') == new_state
end

local changed = 0
for i = 1, #KEYS do
  local key, n = KEYS[i], 6 * i - 2
  local algorithm, field, waiting, numbers = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]
  local at, ending = ARGV[n + 4] + 0, ARGV[n + 5]
  local state, failure = read(key, field, i)
  if failure then
    return failure
  end
  local others, is_changed = waiting ~= '' and redis.call('HGET', key, waiting) or '', false
  others = #others % 6 == 0 and others or ''  -- a garbled list counts as empty
  local left = others ~= '' and without(others, at, cost)
  local new_state
  if ending == 'undo' and state and is_known(algorithm, state) then
    new_state = undo[algorithm](state, at, numbers)
  elseif ending == 'forgive' then
    new_state = field == '' and {} or false
    for start = 1, #(left or others), 6 do
      local time = unpack('>I6', left or others, start)
      local _, _, _, _, counted = steps[algorithm](new_state, time, 1, numbers)
      if counted and field == '' then
        -- In the form in which it would be read.
        counted = {string.format('%.0f', counted[1]), string.format('%.0f', counted[2])}
      end
      new_state = counted or new_state
    end
    new_state = (field == '' and new_state[1] or field ~= '' and new_state) and new_state or ''
  end
  if new_state and not is_same(field, state, new_state) then
    keep(key, field, new_state)
    is_changed = true
  end
  if left then
    keep(key, waiting, left)
    is_changed = true
  end
  changed = changed + (is_changed and 1 or 0)
end
return changed
