-- A window that ends in a block; lockout.py says how.

algorithms['lockout'] = {size = 4, step = function(state, now, cost, window, limit, ...)
  local blocks = {...}
  local count, start, level, until_ms = state[1] or 0, state[2] or now, state[3] or 0, state[4] or 0
  now = math.max(now, start)
  local quiet = window + blocks[#blocks]
  if now < until_ms then
    local left = until_ms - now
    return {cost < 0 and 1 or 0, limit, cost < 0 and 0 or left, left}, nil, left + quiet
  end
  if now - until_ms >= quiet then
    level = 0
  end
  if now - start >= window then
    count, start = 0, now
  end
  local left = start + window - now
  if cost >= 0 and count + (cost == 0 and 1 or cost) > limit then
    return {0, count, left, left}, nil, left + quiet
  end
  if cost < 0 and count == 0 then
    return {1, 0, 0, 0}
  end
  count = math.max(0, count + cost)
  local used = count
  if count == limit then
    left = blocks[math.min(level, #blocks - 1) + 1]
    count, level, until_ms = 0, level + 1, now + left
  end
  return {1, used, 0, used > 0 and left or 0}, {count, start, level, until_ms}, left + quiet
end}
