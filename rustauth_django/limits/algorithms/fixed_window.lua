-- Fixed windows; fixed_window.py says what they are.

local function step(state, now, cost, numbers)
  local window, limit = struct.unpack('>I8I8', numbers)
  local start, count = now, 0
  if state and #state == 14 and string.byte(state) == 1 then
    start, count = struct.unpack('>I6I7', state, 2)
    now = math.max(now, start)
    if now - start >= window then
      start, count = now, 0
    end
  end
  local left = start + window - now
  if cost >= 0 and count + (cost == 0 and 1 or cost) > limit then
    return 0, count, left, left, nil, left
  end
  if cost < 0 and count == 0 then
    return 1, 0, 0, 0
  end
  count = math.max(0, count + cost)
  return 1, count, 0, count > 0 and left or 0, struct.pack('>BI6I7', 1, start, count), left, now
end
