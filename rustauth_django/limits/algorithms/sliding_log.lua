-- An exact log; sliding_log.py says what is in it.

local function step(log, now, cost, numbers)
  local unpack = struct.unpack
  local window, limit = unpack('>I8I8', numbers)
  local count = log and (#log - 1) / 6
  if not log or string.byte(log) ~= 1 or count % 1 ~= 0 then
    log, count = '\1', 0
  end
  local newest = count > 0 and unpack('>I6', log, #log - 5) or 0
  now = math.max(now, newest)
  -- How many no longer count, and the first that does. Few have expired since the last write, so
  -- the search first doubles its steps, starting at the oldest, and then halves them.
  local gone, first = 0, 1
  if newest <= now - window then
    gone, first = count, count + 1
  end
  while first <= count and unpack('>I6', log, 6 * first - 4) <= now - window do
    gone, first = first, math.min(2 * first, count)
  end
  while first - gone > 1 do
    local middle = math.floor((gone + first) / 2)
    if unpack('>I6', log, 6 * middle - 4) <= now - window then
      gone = middle
    else
      first = middle
    end
  end
  local used = count - gone
  local reset = used > 0 and newest + window - now or 0
  local wanted = cost == 0 and 1 or cost
  if cost >= 0 and used + wanted > limit then
    local oldest = gone + used + wanted - limit
    return 0, used, unpack('>I6', log, 6 * oldest - 4) + window - now, reset, nil, reset
  end
  if cost == 0 or cost < 0 and used == 0 then
    return 1, used, 0, reset
  end
  if gone > 0 then
    log = '\1' .. string.sub(log, 6 * gone + 2)
  end
  if cost > 0 then
    return 1, used + cost, 0, window, log .. string.rep(struct.pack('>I6', now), cost), window, now
  end
  used = math.max(0, used + cost)
  log = string.sub(log, 1, 6 * used + 1)
  reset = used > 0 and unpack('>I6', log, #log - 5) + window - now or 0
  return 1, used, 0, reset, log, window, now
end
