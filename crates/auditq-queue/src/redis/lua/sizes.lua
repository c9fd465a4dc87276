-- Counts a queue's messages. KEYS: list, delayed, reserved, failed of the queue. ARGV: clock.
-- Returns ready, delayed, reserved, failed, and the age of the oldest that can be reserved in us (-1: there is none).
local now, oldest = clock(ARGV[1]), -1
local function since(available) oldest = math.max(oldest, 0, math.floor(now - available + 0.5)) end

local ready, delayed = redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2])
local due = redis.call('ZCOUNT', KEYS[2], '-inf', seconds(now))
local head = redis.call('LINDEX', KEYS[1], 0)
if head then
  local message = read(head)
  since(message and message.available > 0 and message.available * 1000000 or now)
end
for _, key in ipairs({ KEYS[2], KEYS[3] }) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[2] and tonumber(first[2]) * 1000000 <= now then since(tonumber(first[2]) * 1000000) end
end
return { ready + due, delayed - due, redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4]), oldest }
