-- A sliding window from two counters; sliding_window.py says how.

algorithms['sliding-window'] = {size = 3, step = function(state, now, cost, window, limit)
  local start, count, before = state[1] or now, state[2] or 0, state[3] or 0
  now = math.max(now, start)
  if now - start >= 2 * window then
    start, count, before = now, 0, 0
  elseif now - start >= window then
    start, count, before = start + window, 0, count
  end
  local left = start + window - now
  local used = count + floor_div(before * (left - 1), window)
  local wanted = cost == 0 and 1 or cost
  local function whole()
    return count > 0 and left + window or left
  end
  if cost >= 0 and used + wanted > limit then
    local room, retry = limit - wanted - count, nil
    if room >= 0 then
      retry = left - floor_div((room + 1) * window - 1, before) - 1
    else
      retry = left + window - floor_div((limit - wanted + 1) * window - 1, count) - 1
    end
    return {0, used, retry, whole()}, nil, left + window
  end
  if cost < 0 then
    if used == 0 then
      return {1, 0, 0, 0}
    end
    before = math.max(0, before + math.min(0, count + cost))
  end
  count = math.max(0, count + cost)
  used = count + floor_div(before * (left - 1), window)
  return {1, used, 0, used > 0 and whole() or 0}, {start, count, before}, left + window
end}
