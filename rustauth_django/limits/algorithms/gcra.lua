-- GCRA; gcra.py says what the numbers are.

-- Lua's own `/` rounds, `fmod` is exact.
local function ceil_div(dividend, divisor)
  local rest = math.fmod(dividend, divisor)
  return (dividend - rest) / divisor + (rest > 0 and 1 or 0)
end

local function step(state, now, cost, numbers)
  local window, limit, rate = struct.unpack('>I8I8I8', numbers)
  local level = 0
  if state and #state == 14 and string.byte(state) == 1 then
    local last
    level, last = struct.unpack('>I7I6', state, 2)
    now = math.max(now, last)
    level = math.max(0, level - (now - last) * rate)
  end
  local over = level + ((cost == 0 and 1 or cost) - limit) * window
  if cost >= 0 and over > 0 then
    local reset = ceil_div(level, rate)
    return 0, ceil_div(level, window), ceil_div(over, rate), reset, nil, reset
  end
  if cost < 0 and level == 0 then
    return 1, 0, 0, 0
  end
  level = math.max(0, level + cost * window)
  local reset = ceil_div(level, rate)
  return 1, ceil_div(level, window), 0, reset, struct.pack('>BI7I6', 1, level, now), reset, now
end
