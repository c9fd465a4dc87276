-- Tells which jobs of Laravel's are held, by whomever of ours, whether their reservations have lapsed or not.
-- KEYS: reserved, held. ARGV: of each its payload, as it was at any attempt. Returns the places of those that are.
local wanted, places = {}, {}
for place, payload in ipairs(ARGV) do
  local job = read_laravels(payload)
  if job then wanted[job.handle] = place - 1 end
end

-- A claim names the attempt too, which is not known here.
local held = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for at = 1, #held, 2 do
  local handle, attempts = string.match(held[at], '^(.+) (%d+)$')
  local place = wanted[handle]
  if place and find_at(KEYS[1], held[at + 1], handle, attempts) then
    places[#places + 1], wanted[handle] = place, nil
  end
end
return places
