-- One visitor for each connection of wrk, who looks at every answer: is there a number, and the right one?
-- Arguments: what to expect ("next", "any" or "first" number of a session), then the cookies.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  expected, last, wrong = args[1], nil, 0
  local cookies = #args - 1
  if cookies > 0 then
    wrk.headers["Cookie"] = args[2 + number % cookies]
  end
end

function response(status, headers, body)
  local views = tonumber(body:match("you've been here (%d+) time%(s%)"))
  if status ~= 200 or not views
    or (expected == "next" and last and views ~= last + 1)
    or (expected == "first" and views ~= 1) then
    wrong = wrong + 1
  end
  last = views
end

function done(summary, latency, requests)
  local sum = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do
    sum = sum + thread:get("wrong")
  end
  io.write("wrong ", sum, "\n")
end
