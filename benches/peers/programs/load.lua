-- One visitor for each connection of wrk, who looks at every answer: is there a number, and the right one?
-- Arguments: what to expect ("next", "any" or "first" number of a session), then the cookies.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  expected, last, answers, wrong, complaint = args[1], nil, 0, 0, ""
  local cookies = #args - 1
  if cookies > 0 then
    wrk.headers["Cookie"] = args[2 + number % cookies]
  end
end

function response(status, headers, body)
  answers = answers + 1
  local views = tonumber(body:match("you've been here (%d+) time%(s%)"))
  if status ~= 200 or not views
    or (expected == "next" and last and views ~= last + 1)
    or (expected == "first" and views ~= 1) then
    wrong = wrong + 1
    if complaint == "" then
      complaint = string.format("answer %d: status %d, number %s after %s",
        answers, status, tostring(views), tostring(last))
    end
  end
  last = views
end

function done(summary, latency, requests)
  local errors = summary.errors
  local sum = errors.connect + errors.read + errors.write + errors.timeout
  if sum > 0 then
    io.write("complaint ", string.format("connect %d, read %d, write %d, timeout %d\n",
      errors.connect, errors.read, errors.write, errors.timeout))
  end
  for _, thread in ipairs(threads) do
    sum = sum + thread:get("wrong")
    if thread:get("complaint") ~= "" then
      io.write("complaint ", thread:get("complaint"), "\n")
    end
  end
  io.write("wrong ", sum, "\n")
end
