-- GCRA; gcra.py says what the numbers are.

algorithms['gcra'] = {size = 2, step = function(state, now, cost, window, limit, rate)
  local level, last = state[1] or 0, state[2] or now
  now = math.max(now, last)
  level = math.max(0, level - (now - last) * rate)
  local over = level + ((cost == 0 and 1 or cost) - limit) * window
  if cost >= 0 and over > 0 then
    local reset = ceil_div(level, rate)
    return {0, ceil_div(level, window), ceil_div(over, rate), reset}, nil, reset
  end
  if cost < 0 and level == 0 then
    return {1, 0, 0, 0}
  end
  level = math.max(0, level + cost * window)
  local reset = ceil_div(level, rate)
  return {1, ceil_div(level, window), 0, reset}, {level, now}, reset
end}
