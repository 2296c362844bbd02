-- What the algorithms share. Lua's own `/` rounds, `fmod` is exact.

local algorithms = {}

local function floor_div(dividend, divisor)
  return (dividend - math.fmod(dividend, divisor)) / divisor
end

local function ceil_div(dividend, divisor)
  local rest = math.fmod(dividend, divisor)
  return (dividend - rest) / divisor + (rest > 0 and 1 or 0)
end
