-- A window that ends in a block; lockout.py says how.

local function step(state, now, cost, numbers)
  local window, limit = struct.unpack('>I8I8', numbers)
  local longest = struct.unpack('>I8', numbers, #numbers - 7)
  local count, start, level, until_ms = 0, now, 0, 0
  if state and #state == 28 and string.byte(state) == 1 then
    count, start, level, until_ms = struct.unpack('>I7I6I7I7', state, 2)
  end
  now = math.max(now, start)
  local quiet = window + longest
  if now < until_ms then
    local left = until_ms - now
    return cost < 0 and 1 or 0, limit, cost < 0 and 0 or left, left, nil, left + quiet
  end
  if now - until_ms >= quiet then
    level = 0
  end
  if now - start >= window then
    count, start = 0, now
  end
  local left = start + window - now
  if cost >= 0 and count + (cost == 0 and 1 or cost) > limit then
    return 0, count, left, left, nil, left + quiet
  end
  if cost < 0 and count == 0 then
    return 1, 0, 0, 0
  end
  count = math.max(0, count + cost)
  local used = count
  if count == limit then
    left = struct.unpack('>I8', numbers, math.min(17 + 8 * level, #numbers - 7))
    count, level, until_ms = 0, level + 1, now + left
  end
  local new_state = struct.pack('>BI7I6I7I7', 1, count, start, level, until_ms)
  return 1, used, 0, used > 0 and left or 0, new_state, left + quiet
end
