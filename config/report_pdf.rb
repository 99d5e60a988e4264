# frozen_string_literal: true

# Adds what asciidoctor-pdf lacks: right-to-left text, the Devanagari vowel sign i in its place, and tables in a smaller
# font.

require_relative 'report_pdf_speed'
require_relative 'report_pdf_pictures'

# Prawn draws glyphs one by one, from left to right. So this replaces Arabic letters with their presentation forms, and
# puts text into visual order.
module RightToLeft
  LETTERS = '\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc'
  RUN = /[#{LETTERS}]+(?:[ \u00a0]+[#{LETTERS}]+)*/.freeze
  LEFT_TO_RIGHT = /[[:alnum:]&&[^#{LETTERS}]](?:[^#{LETTERS}<>]*[[:alnum:]&&[^#{LETTERS}]])?/.freeze
  TAG = /<[^>]*>/.freeze
  MIRRORED = { '(' => ')', ')' => '(', '[' => ']', ']' => '[' }.freeze
  REFERENCE = /&(?:#(\d+)|\w+);/.freeze
  STAND_INS = { '&#38;' => "\ue026", '&#60;' => "\ue03c", '&#62;' => "\ue03e" }.freeze
  NAMED = { '&amp;' => '&#38;', '&lt;' => '&#60;', '&gt;' => '&#62;' }.freeze

  # The isolated, final, initial and medial form of each letter, from Unicode's decompositions.
  FORMS = [0xfe80..0xfef4, 0xfb50..0xfbff].each_with_object({}) do |codes, forms|
    codes.map {|code| [code].pack 'U' }.group_by {|form| form.unicode_normalize :nfkc }.each do |letter, shapes|
      forms[letter] ||= shapes if letter.length == 1 && letter != shapes[0]
    end
  end.freeze
  LAM_ALEF = { "\u0622" => "\ufef5", "\u0623" => "\ufef7", "\u0625" => "\ufef9", "\u0627" => "\ufefb" }.freeze
  MARKS = /[\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8]/.freeze

  module_function

  def any? text
    RUN.match? text
  end

  # Whether a paragraph is right-to-left: its first letter with a direction decides, as in Unicode's algorithm.
  def paragraph? text
    (text.gsub TAG, '').gsub(REFERENCE, ' ')[/[[:alpha:]]/]&.match?(/[#{LETTERS}]/) || false
  end

  # For a left-to-right line that contains right-to-left text.
  def seen_from_left text
    outside_tags(text) {|part| part.gsub(RUN) {|run| reversed shaped run } }
  end

  # A single character instead of each reference, which must not be reversed.
  def without_references text
    text.gsub(REFERENCE) {|reference| STAND_INS[NAMED[reference] || reference] || ($1 ? [$1.to_i].pack('U') : ' ') }
  end

  # For a right-to-left paragraph: Prawn will reverse all of it, so reverse left-to-right text beforehand.
  def seen_from_right text
    outside_tags(text) do |part|
      mirrored = (shaped without_references part).gsub(/[()\[\]]/, MIRRORED)
      seen = mirrored.gsub(LEFT_TO_RIGHT) {|run| reversed(run.gsub(/[()\[\]]/, MIRRORED)) }
      seen.gsub(/[#{STAND_INS.values.join}]/, STAND_INS.invert)
    end
  end

  def outside_tags text
    text.split(/(#{TAG})/).map {|part| (part.start_with? '<') ? part : (yield part) }.join
  end

  def reversed text
    text.scan(/\X/).reverse.join
  end

  def shaped text
    letters = text.gsub(/\u0644[\u0622\u0623\u0625\u0627]/) {|pair| LAM_ALEF[pair[1]] }.chars
    letters.each_with_index.map do |letter, index|
      (forms = forms_of letter) ? forms[joins?(letters, index, -1), joins?(letters, index, 1)] : letter
    end.join
  end

  def forms_of letter
    if LAM_ALEF.value? letter
      ->(before, _) { before ? [letter.ord + 1].pack('U') : letter }
    elsif (forms = FORMS[letter])
      ->(before, after) { forms[(before ? 1 : 0) + (after ? 2 : 0)] || forms[before ? 1 : 0] || forms[0] }
    end
  end

  # Whether the letter at index joins its neighbour, which needs both letters to be able to.
  def joins? letters, index, step
    here = index
    here += step
    here += step while here >= 0 && here < letters.length && (MARKS.match? letters[here])
    return false if here.negative? || here >= letters.length
    first, second = step.positive? ? [letters[index], letters[here]] : [letters[here], letters[index]]
    (joins_next? first) && (first == "\u0640" || second == "\u0640" || (FORMS.key? second) || (LAM_ALEF.value? second))
  end

  def joins_next? letter
    letter == "\u0640" || (FORMS[letter] || []).length > 2
  end
end

# The vowel sign i is stored after its consonants, but displayed before them.
module Devanagari
  SIGN_I = /((?:[\u0915-\u0939\u0958-\u095f]\u093c?\u094d)*[\u0915-\u0939\u0958-\u095f]\u093c?)\u093f/.freeze

  module_function

  def seen text
    text.gsub SIGN_I, "\u093f\\1"
  end
end

Asciidoctor::Table::Cell.prepend (Module.new do
  def text
    shown = super
    return shown unless shown.is_a? String
    shown = Devanagari.seen (Referenced.replaced shown)
    (RightToLeft.any? shown) ? (RightToLeft.seen_from_left shown) : shown
  end
end)

# Keeps headings together with what follows them.
module KeptHeadings
  # Where more than this is left on the page, in points, the beginning of such a block surely fits.
  ENOUGH = Hash.new(200).merge(paragraph: 120, table: 450, image: Float::INFINITY)
  # What each further heading above the block takes.
  OF_A_HEADING = 60
  # The largest part of a page, from its top, that headings may take for a picture below them to shrink.
  HEADINGS_ONLY = 0.4

  def convert_section section, opts = {}
    turn_page_before section
    super
  end

  def convert_floating_title node
    turn_page_before node
    super
  end

  def convert_page_break node
    super unless node.attr? 'done'
  end

  def arrange_heading node, title, opts
    return if below_headings?
    pages = page_number
    super
    advance_page if pages == page_number && (alone? node, title, opts)
  end

  def ink_general_heading node, title, opts = {}
    begins_page = at_page_top? || below_headings?
    super
    @headings_end = begins_page ? [page_number, cursor] : nil
  end

  # A picture that is too tall for the page below its headings shrinks.
  def convert_image node, opts = {}
    below = below_headings? && cursor > bounds.height * (1 - HEADINGS_ONLY)
    super node, (below ? (opts.merge pinned: true) : opts)
    theme_margin :block, :bottom, (next_enclosed_block node) if below
  end

  private

  # Whether there are only headings on the page so far.
  def below_headings?
    @headings_end == [page_number, cursor]
  end

  # A heading belongs on the turned page of the table below it.
  def turn_page_before heading
    *, block = (with_following heading)
    return if scratch? || block.context != :page_break || (block.attr? 'done')
    convert_page_break block
    block.set_attr 'done', ''
  end

  # The heading, the headings directly below it, and the block after them (the last of them if there is none).
  def with_following heading
    chain = [heading]
    while (heading? chain.last) && chain.size < 10
      break if (block = following chain.last).nil?
      chain << block
    end
    chain
  end

  def heading? block
    block.context == :section || block.context == :floating_title
  end

  def following block
    return block.blocks.first if block.context == :section && block.blocks?
    while (parent = block.parent) && (parent.context == :section || parent.context == :document)
      place = parent.blocks.index {|each| each.equal? block }
      following = parent.blocks.drop(place + 1).find {|each| !(each.attr? 'done') }
      return following if following
      block = parent
    end
  end

  # Whether nothing of the block below a heading fits on the page.
  def alone? node, title, opts
    _, *others, block = with_following node
    return false if block.nil? || (heading? block) || cursor > (enough_for block) + (others.size * OF_A_HEADING)
    alone = false
    dry_run single_page: true do
      push_scratch node.document
      first_page, @headings_end = page_number, nil
      theme_font(:heading, level: opts[:level]) { ink_general_heading node, title, opts.dup }
      others.each do |each|
        theme_font(:heading, level: each.level.next) { ink_general_heading each, each.title, level: each.level.next }
      end
      page.tare_content_stream
      alone = page_number > first_page || ((perform_on_single_page { convert block }) && page.empty?)
    ensure
      pop_scratch node.document
    end
    alone
  end

  def enough_for block
    return Float::INFINITY if block.context == :paragraph && (block.lines.any? {|line| line.include? 'image:' })
    ENOUGH[block.context]
  end
end

class ReportConverter < (Asciidoctor::Converter.for 'pdf')
  register_for 'pdf'
  prepend PicturesLeftOut

  attr_reader :continued

  def typeset_text string, line_metrics, opts = {}
    string = Devanagari.seen (Referenced.replaced string)
    return super string, line_metrics, opts unless RightToLeft.any? string
    return super (RightToLeft.seen_from_left string), line_metrics, opts unless RightToLeft.paragraph? string
    align = opts[:align] == :center ? :center : :right
    super (RightToLeft.seen_from_right string), line_metrics, (opts.merge direction: :rtl, align: align)
  end

  # Three attributes of a table: text-size is the font size, in points, at which it fits the page; head-rows is the number
  # of its header rows, of which asciidoc supports only one; continued has the places (row.column) of the cells that
  # continue the ones above them.
  def convert_table node
    return super unless (size = (node.attr 'text-size').to_f).positive?
    more = (node.attr 'head-rows').to_i - node.rows.head.size
    more.times { node.rows.head << node.rows.body.shift } if node.rows.head.any?
    height = node.rows.by_section.sum {|_, rows| rows.size } * size * 2.2
    advance_page if height > cursor && height < bounds.height * 0.5
    usual, @theme.table_font_size = @theme.table_font_size, size
    @continued = (node.attr 'continued').to_s.split.map {|place| place.split('.').map(&:to_i) }
    begin
      super
    ensure
      @theme.table_font_size = usual
      @continued = []
    end
  end

  include KeptHeadings
end

# Cells that continue the ones above them: no line is between them, and a label is repeated on the next page.
Prawn::Table.prepend (Module.new do
  def initialize data, document, options = {}, &block
    places = document.continued
    return super if places.nil? || places.empty?
    super data, document, options do
      instance_eval(&block)
      continue_cells places
    end
  end

  def continue_cells places
    @continued = places.to_h {|place| [place, true] }
    places.each do |row, column|
      next unless (above = cells[row - 1, column]) && (below = cells[row, column])
      above.border_bottom_width = below.border_top_width = 0
    end
  end

  protected

  def ink_and_draw_cells_and_start_new_page cells_this_page, first
    super.tap { row(first.row).each {|cell| repeat_label cell } }
  end

  private

  def repeat_label cell
    return unless @continued&.key?([cell.row, cell.column]) && cell.content.to_s.empty?
    row = cell.row
    row -= 1 while @continued[[row, cell.column]] == :repeated || ((@continued.key? [row, cell.column]) && cells[row, cell.column].content.to_s.empty?)
    return if @continued.key? [row, cell.column] # text that goes on, not a label
    cell.content = cells[row, cell.column].content.to_s # a place below a cell that spans columns has none
    cell.content = '' if cell.natural_content_height > cell.spanned_content_height
    @continued[[cell.row, cell.column]] = :repeated unless cell.content.empty?
  end
end)
