-- The RustAuth window; rustauth.py says what it means. Its state is text, as RustAuth writes it.

-- Anything but a plain integer that a double holds exactly counts as nothing.
local function integer(text)
  return text and #text <= 16 and string.find(text, '^%d+$') and text + 0
end

local function step(state, now, cost, numbers)
  local window, limit = struct.unpack('>I8I8', numbers)
  local count, last = integer(state[1]), integer(state[2])
  if not (count and last) then
    count, last = 0, now
  end
  now = math.max(now, last)
  if now - last > window then
    count, last = 0, now
  end
  if cost >= 0 and count > 0 and count + (cost == 0 and 1 or cost) > limit then
    local left = last + window - now
    return 0, count, left, left, nil, window
  end
  if cost > 0 then
    count, last = count + cost, now
  elseif count > 0 then
    count = math.max(0, count + cost)
  elseif cost < 0 then
    return 1, 0, 0, 0
  end
  return 1, count, 0, count > 0 and last + window - now or 0, {count, last}, window, now
end
