-- A pandoc reader of many texts at once: each starts with U+001E, its format and a line break. Each becomes a Div of
-- its own, so that what one text leaves open does not reach the next, and a text that cannot be read becomes a Div of
-- class "failed" with pandoc's message.

local SEPARATOR = "\30"

local function has_raw_html(block)
  local found = false
  pandoc.walk_block(block, {
    RawInline = function(raw) found = found or raw.format == "html" end,
    RawBlock = function(raw) found = found or raw.format == "html" end,
  })
  return found
end

-- A block of markdown with HTML in it, read again as HTML. What HTML cannot carry is put aside meanwhile.
local function read_html_in(block)
  local kept = {}
  local function keep(inline)
    kept[#kept + 1] = inline
    return pandoc.Span({}, pandoc.Attr("kept-" .. #kept))
  end
  local bare = pandoc.walk_block(pandoc.Div({ block }), { Math = keep, Note = keep, Image = keep })
  local html = pandoc.write(pandoc.Pandoc({ bare }), "html")
  local read = pandoc.read(html, "html")
  return pandoc.walk_block(pandoc.Div(read.blocks), {
    Span = function(span)
      local number = span.identifier:match("^kept%-(%d+)$")
      return number and kept[tonumber(number)] or nil
    end,
  })
end

local function joined_html(blocks)
  local result = pandoc.List()
  local pending = pandoc.List()
  local function flush()
    if #pending > 0 then
      result:insert(read_html_in(pandoc.Div(pending)))
      pending = pandoc.List()
    end
  end
  for _, block in ipairs(blocks) do
    if has_raw_html(block) then
      pending:insert(block)
    else
      flush()
      result:insert(block)
    end
  end
  flush()
  return result
end

function Reader(input)
  local divs = pandoc.List()
  for format, text in tostring(input):gmatch(SEPARATOR .. "([^\n]*)\n([^" .. SEPARATOR .. "]*)") do
    local ok, result = pcall(function()
      return joined_html(pandoc.read(text, format).blocks)
    end)
    if ok then
      divs:insert(pandoc.Div(result))
    else
      divs:insert(pandoc.Div({}, pandoc.Attr("", { "failed" }, { message = tostring(result) })))
    end
  end
  return pandoc.Pandoc(divs)
end
