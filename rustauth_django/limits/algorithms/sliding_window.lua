-- A sliding window from two counters; sliding_window.py says how.

-- Lua's own `/` rounds, `fmod` is exact.
local function floor_div(dividend, divisor)
  return (dividend - math.fmod(dividend, divisor)) / divisor
end

local function step(state, now, cost, numbers)
  local window, limit = struct.unpack('>I8I8', numbers)
  local start, count, before = now, 0, 0
  if state and #state == 21 and string.byte(state) == 1 then
    start, count, before = struct.unpack('>I6I7I7', state, 2)
    now = math.max(now, start)
    if now - start >= 2 * window then
      start, count, before = now, 0, 0
    elseif now - start >= window then
      start, count, before = start + window, 0, count
    end
  end
  local left = start + window - now
  local used = count + floor_div(before * (left - 1), window)
  local wanted = cost == 0 and 1 or cost
  local whole = count > 0 and left + window or left
  if cost >= 0 and used + wanted > limit then
    local room, retry = limit - wanted - count, nil
    if room >= 0 then
      retry = left - floor_div((room + 1) * window - 1, before) - 1
    else
      retry = left + window - floor_div((limit - wanted + 1) * window - 1, count) - 1
    end
    return 0, used, retry, whole, nil, left + window
  end
  if cost < 0 then
    if used == 0 then
      return 1, 0, 0, 0
    end
    before = math.max(0, before + math.min(0, count + cost))
  end
  count = math.max(0, count + cost)
  used = count + floor_div(before * (left - 1), window)
  local reset = used > 0 and (count > 0 and left + window or left) or 0
  return 1, used, 0, reset, struct.pack('>BI6I7I7', 1, start, count, before), left + window, now
end
