-- Shows messages that are held, as they were before they were. KEYS: reserved, held. ARGV: of each: handle, attempts.
-- Returns of each its place, id and member; not of those that are stale.
local answer = {}
for at = 1, #ARGV, 2 do
  local member, message = find_held(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1])
  if member then
    local last = #answer
    answer[last + 1], answer[last + 2] = (at - 1) / 2, message.id
    answer[last + 3] = with_attempts(member, message, math.max(message.attempts - 1, 0))
  end
end
return answer
