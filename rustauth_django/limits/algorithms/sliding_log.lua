-- An exact log; sliding_log.py says what is in it.

algorithms['sliding-log'] = {step = function(state, now, cost, window, limit)
  if #state > 0 then
    now = math.max(now, state[#state - 1])
  end
  local log, used = {}, 0
  for i = 1, #state, 2 do
    if now - state[i] < window then
      log[#log + 1], log[#log + 2] = state[i], state[i + 1]
      used = used + state[i + 1]
    end
  end
  local function whole()
    return #log > 0 and log[#log - 1] + window - now or 0
  end
  local wanted = cost == 0 and 1 or cost
  if cost >= 0 and used + wanted > limit then
    local excess, oldest = used + wanted - limit, 1
    while excess > log[oldest + 1] do
      excess, oldest = excess - log[oldest + 1], oldest + 2
    end
    return {0, used, log[oldest] + window - now, whole()}, nil, whole()
  end
  if cost < 0 and #log == 0 then
    return {1, 0, 0, 0}
  end
  if cost > 0 then
    log[#log + 1], log[#log + 2] = now, cost
  end
  local back = math.min(used, math.max(0, -cost))
  used = used + math.max(cost, -used)
  while back > 0 do
    local given = math.min(back, log[#log])
    back, log[#log] = back - given, log[#log] - given
    if log[#log] == 0 then
      log[#log], log[#log - 1] = nil, nil
    end
  end
  return {1, used, 0, whole()}, log, window
end}
