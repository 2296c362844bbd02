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
  local count = #times / 6
  if count > 0 and (count >= limit or now - unpack('>I6', times) >= window) then
    count, times = 0, ''
  end
  local left = (count > 0 and unpack('>I6', times) or now) + window - now
  if cost >= 0 and count + (cost == 0 and 1 or cost) > limit then
    return 0, count, left, left, nil, left + quiet
  end
  if cost < 0 and count == 0 then
    return 1, 0, 0, 0
  end
  count = math.max(0, count + cost)
  times = cost > 0 and times .. string.rep(struct.pack('>I6', now), cost)
    or string.sub(times, 1, 6 * count)
  if count == limit then
    left = unpack('>I8', numbers, math.min(17 + 8 * level, #numbers - 7))
    level, until_ms, before = math.min(level + 1, 65535), now + left, until_ms
  end
  local new_state = struct.pack('>BI2I7I7', 2, level, until_ms, before) .. times
  return 1, count, 0, count > 0 and left or 0, new_state, left + quiet, now
end
