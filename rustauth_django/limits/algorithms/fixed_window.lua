-- Fixed windows; fixed_window.py says what they are.

algorithms['fixed-window'] = {size = 2, step = function(state, now, cost, window, limit)
  local start, count = state[1] or now, state[2] or 0
  now = math.max(now, start)
  if now - start >= window then
    start, count = now, 0
  end
  local left = start + window - now
  if cost >= 0 and count + (cost == 0 and 1 or cost) > limit then
    return {0, count, left, left}, nil, left
  end
  if cost < 0 and count == 0 then
    return {1, 0, 0, 0}
  end
  count = math.max(0, count + cost)
  return {1, count, 0, count > 0 and left or 0}, {start, count}, left
end}
