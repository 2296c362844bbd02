-- A window that ends in a block; lockout.py says how.

local function step(state, now, cost, numbers)
  local unpack = struct.unpack
  local window, limit = unpack('>I8I8', numbers)
  local longest = unpack('>I8', numbers, #numbers - 7)
  local level, until_ms, before, times = 0, 0, 0, ''
  if state and #state >= 17 and (#state - 17) % 6 == 0 and string.byte(state) == 2 then
    level, until_ms, before = unpack('>I2I7I7', state, 2)
    times = string.sub(state, 18)
    now = math.max(now, times == '' and 0 or unpack('>I6', times, #times - 5))
  end
  local quiet = window + longest
  if now < until_ms then
    local left = until_ms - now
    return cost < 0 and 1 or 0, limit, cost < 0 and 0 or left, left, nil, left + quiet
  end
  if now - until_ms >= quiet then
    level = 0
  end
  -- A full list has begun a block, which is over now.
  local first = #times >= 6 * limit and #times + 1 or 1
  while first < #times and now - unpack('>I6', times, first) >= window do
    first = first + 6
  end
  times = string.sub(times, first)
  local count = #times / 6
  local function reset()
    return (count > 0 and unpack('>I6', times, #times - 5) or now) + window - now
  end
  local left, excess = reset(), count + (cost == 0 and 1 or cost) - limit
  if cost >= 0 and excess > 0 then
    -- As many of the oldest have to expire.
    return 0, count, unpack('>I6', times, 6 * excess - 5) + window - now, left, nil, left + quiet
  end
  if cost < 0 and count == 0 then
    return 1, 0, 0, 0
  end
  count = math.max(0, count + cost)
  times = cost > 0 and times .. string.rep(struct.pack('>I6', now), cost)
    or string.sub(times, 1, 6 * count)
  left = reset()
  if count == limit then
    left = unpack('>I8', numbers, math.min(17 + 8 * level, #numbers - 7))
    level, until_ms, before = math.min(level + 1, 65535), now + left, until_ms
  end
  local new_state = struct.pack('>BI2I7I7', 2, level, until_ms, before) .. times
  return 1, count, 0, count > 0 and left or 0, new_state, left + quiet, now
end
