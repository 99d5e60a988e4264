# frozen_string_literal: true

# Shortcuts for Prawn, which draws the PDF. They do not change its appearance, and have no effect if a version of Prawn
# lacks the methods that they speed up.

# Numbers in the PDF, for each of which Prawn uses a format and a regular expression. One that is infinite, or not a
# number, would make the whole PDF invalid.
PDF::Core.singleton_class.prepend (Module.new do
  def real number
    raise ArgumentError, "not a number: #{number}" unless number.to_f.abs < 1e9
    number.is_a?(Integer) ? "#{number}.0" : (shown = number.round(5).to_s).include?('e') ? super : shown
  end
end)

# The patterns for line breaks: make them once for each encoding, not for each line.
Prawn::Text::Formatted::LineWrap.prepend (Module.new do
  patterns = Hash.new {|known, key| known[key] = {} }
  %i[scan_pattern word_division_scan_pattern].each do |name|
    define_method(name) {|encoding = Encoding::UTF_8| patterns[name][encoding] ||= super(encoding) }
  end
end)

# Text that the document's font surely contains: skip the search for a fallback font, character by character.
Prawn::Text::Formatted::Box.prepend (Module.new do
  def analyze_glyphs_for_fallback_font_support fragment
    /\A[\u0020-\u007e\u00a1-\u00ac\u00ae-\u017f\n]*\z/.match?(fragment[:text]) ? [fragment] : super
  end
end)

# A table cell with one line of plain text: draw it directly, without the layout of paragraphs.
Prawn::Table::Cell::Text.prepend (Module.new do
  plain = /\A(?=.*[^ ])[\u0020-\u0025\u0027-\u003b\u003d-\u007e\u00a1-\u00ac\u00ae-\u017f]+\z/
  heights = {}

  define_method :natural_content_height do
    next super() unless one_line?
    with_font { heights[[@pdf.font, @text_options[:size], @text_options[:leading]]] ||= super() }
  end

  def draw_content
    return super unless one_line?
    with_font do
      with_text_color do
        @pdf.font_size @text_options[:size] do
          left = { right: 1.0, center: 0.5 }[@text_options[:align]].to_f * (spanned_content_width + Prawn::Table::Cell::FPTolerance - plain_width)
          @pdf.draw_text! @content, at: [left, @pdf.cursor - @pdf.font.ascender], kerning: @text_options[:kerning]
        end
      end
    end
  end

  private

  define_method :one_line? do
    @text_options[:valign] == :top && @text_options[:size] && plain.match?(@content) && plain_width <= spanned_content_width
  end

  def plain_width
    @plain_width ||= with_font { @pdf.width_of @content, size: @text_options[:size], kerning: @text_options[:kerning] }
  end
end)

# Font files: read each once, also for what is laid out on trial.
Prawn::Fonts::TTF.prepend (Module.new do
  read = {}
  define_method(:read_ttf_file) { @name.is_a?(String) ? (read[@name] ||= super()) : super() }
end)
