-- A pandoc reader for many texts at once. Each text starts with U+001E, its format and a line break. Each becomes a
-- separate Div, so that an element that one text leaves open does not affect the next. A text that pandoc cannot read
-- becomes a Div of class "failed" with pandoc's message.

local SEPARATOR = "\30"

-- Only these elements reach pandoc's HTML reader, which would fetch the content of iframes.
local ALLOWED = {}
for name in ([[a abbr address article aside b big blockquote br caption center cite code col colgroup dd del details dfn
  div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark nav ol p pre q s
  samp section small span strike strong sub summary sup table tbody td tfoot th thead tr tt u ul var wbr]]):gmatch("%S+")
do
  ALLOWED[name] = true
end

-- A tag always begins with "<" and its name, so this removes all other tags, however broken the text is.
local function safe_html(html)
  local text = html:gsub("<!%-%-.-%-%->", ""):gsub("<([sS][cC][rR][iI][pP][tT])[%s>].-</%1[^>]*>", "")
  text = text:gsub("<([sS][tT][yY][lL][eE])[%s>].-</%1[^>]*>", "")
  return (text:gsub("<(/?)([%w]*)([^%w]?)", function(slash, name, after)
    if ALLOWED[name:lower()] and after:match("^[%s/>]$") then
      return nil
    end
    return "&lt;" .. slash .. name .. (after == "<" and "&lt;" or after)
  end))
end

-- pandoc creates as many columns as a cell claims to span. More than these are not shown.
local MOST_COLUMNS = 100

local function with_short_spans(html)
  return (html:gsub("<[tT][dDhH][^<]*", function(cell)
    return (cell:gsub("([cC][oO][lL][sS][pP][aA][nN]%s*=%s*[\"']?)%s*([^\"'%s>]*)", function(name, columns)
      return name .. math.floor(math.max(1, math.min(tonumber(columns) or 1, MOST_COLUMNS)))
    end))
  end))
end

local function read_html(html)
  return pandoc.read(with_short_spans(safe_html(html)), "html", nil, {})
end

local function has_raw_html(block)
  local found = false
  pandoc.walk_block(pandoc.Div({ block }), {
    RawInline = function(raw) found = found or raw.format == "html" end,
    RawBlock = function(raw) found = found or raw.format == "html" end,
  })
  return found
end

-- Read markdown blocks that contain HTML again as HTML. Elements that HTML cannot represent are kept aside.
local function read_html_in(blocks)
  local kept = {}
  local function keep(inline)
    kept[#kept + 1] = inline
    return pandoc.Span({}, pandoc.Attr("kept-" .. #kept))
  end
  local bare = pandoc.walk_block(pandoc.Div(blocks), { Math = keep, Note = keep, Image = keep, Code = keep })
  local read = read_html(pandoc.write(pandoc.Pandoc(bare.content), "html"))
  return pandoc.walk_block(pandoc.Div(read.blocks), {
    Span = function(span)
      local number = span.identifier:match("^kept%-(%d+)$")
      return number and kept[tonumber(number)] or nil
    end,
  }).content
end

local function with_html_read(blocks)
  local result, pending = pandoc.List(), pandoc.List()
  local function flush()
    if #pending > 0 then
      result:extend(read_html_in(pending))
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

-- Convert an inline formula to text with superscripts and subscripts, if pandoc can.
local function formula_as_text(math)
  if math.mathtype ~= "InlineMath" then
    return nil
  end
  local read = pandoc.read(pandoc.write(pandoc.Pandoc({ pandoc.Para({ math }) }), "html"), "html")
  local block = read.blocks[1]
  local text = pandoc.utils.stringify(read)
  if not block or text == "" or text:find("^%$") or text:find("\\") then
    return nil
  end
  return pandoc.Span(block.content)
end

local function read_text(format, text)
  local blocks = format == "html" and read_html(text).blocks or with_html_read(pandoc.read(text, format, nil, {}).blocks)
  return pandoc.walk_block(pandoc.Div(blocks), { Math = formula_as_text }).content
end

function Reader(input)
  local divs = pandoc.List()
  for format, text in tostring(input):gmatch(SEPARATOR .. "([^\n]*)\n([^" .. SEPARATOR .. "]*)") do
    local ok, result = pcall(read_text, format, text)
    if ok then
      divs:insert(pandoc.Div(result))
    else
      divs:insert(pandoc.Div({}, pandoc.Attr("", { "failed" }, { message = tostring(result) })))
    end
  end
  return pandoc.Pandoc(divs)
end
