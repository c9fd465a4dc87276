-- Drops some messages of a queue, so that others get their turn. KEYS: list, delayed, reserved, notify, held, ids
-- ARGV: how many, bytes. Returns how many.
local limit, bytes, dropped = tonumber(ARGV[1]), tonumber(ARGV[2]), 0

local function drop(member)
  local message = read(member)
  if message then
    redis.call('SREM', KEYS[6], message.id)
    redis.call('ZREM', KEYS[5], claim(message.handle, digits(message.attempts)))
  end
  dropped, bytes = dropped + 1, bytes - #member
end

while dropped < limit and bytes > 0 do
  local member = redis.call('LPOP', KEYS[1])
  if not member then break end
  drop(member)
end
for _, key in ipairs({ KEYS[2], KEYS[3] }) do
  while dropped < limit and bytes > 0 do
    local first = redis.call('ZPOPMIN', key)
    if not first[1] then break end
    drop(first[1])
  end
end
count_tokens(KEYS[1], KEYS[4])
return dropped
