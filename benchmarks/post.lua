-- wrk -s post.lua URL -- BODY_FILE CONTENT_TYPE [MARKER]: posts the file and prints the results as one line of JSON.
-- MARKER occurs in an answer once for each image that was read; without it every answer counts as one.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
  images = 0
  if args[3] then -- wrk is slower when it has to pass the answers on
    response = function(status, headers, body)
      local _, read = body:gsub(args[3], "")
      images = images + read
    end
  end
end

function done(summary, latency, requests)
  local images = 0
  for _, thread in ipairs(threads) do
    images = images + thread:get("images")
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds": %f, "requests": %d, "images": %d, "failed": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.duration / 1e6, summary.requests, images,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
