-- The RustAuth window; rustauth.py says what it means.

algorithms['rustauth'] = {size = 2, step = function(state, now, cost, window, limit)
  local count, last = state[1] or 0, state[2] or now
  now = math.max(now, last)
  if now - last > window then
    count, last = 0, now
  end
  if cost >= 0 and count > 0 and count + (cost == 0 and 1 or cost) > limit then
    local left = last + window - now
    return {0, count, left, left}, nil, window
  end
  if cost > 0 then
    count, last = count + cost, now
  elseif count > 0 then
    count = math.max(0, count + cost)
  elseif cost < 0 then
    return {1, 0, 0, 0}
  end
  return {1, count, 0, count > 0 and last + window - now or 0}, {count, last}, window
end}
