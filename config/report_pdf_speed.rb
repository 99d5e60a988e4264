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

# A PNG with 8 bits for red, green and blue, as are those of figures: its compressed pixels are what a PDF contains, so
# copy them. Prawn would decompress them, and compress them again.
class PlainPNG < Prawn::Images::Image
  HEADER = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR".b.freeze
  PLAIN = [8, 2, 0, 0, 0].freeze # bits, RGB, the usual compression and filters, not interlaced

  attr_reader :width, :height
  attr_accessor :scaled_width, :scaled_height

  class << self
    def can_render? content
      (content.start_with? HEADER) && content[24, 5].unpack('C5') == PLAIN && !(chunks content)['tRNS']
    rescue ArgumentError
      false
    end

    # The content of the chunks of each type; ArgumentError, if one of them is damaged, or the last is missing.
    def chunks content
      found, place = {}, 8
      until found.key? 'IEND'
        size, type = content[place, 8]&.unpack 'Na4'
        chunk, sum = content[place + 4, size.to_i + 8]&.unpack "a#{size.to_i + 4}N"
        raise ArgumentError unless sum && sum == (Zlib.crc32 chunk)
        (found[type] ||= []) << chunk[4..-1]
        place += size + 12
      end
      found
    end
  end

  def initialize content
    super()
    @width, @height = content[16, 8].unpack 'NN'
    @pixels = (self.class.chunks content)['IDAT'].to_a.join
  end

  def build_pdf_object document
    decoding = { Predictor: 15, Colors: 3, BitsPerComponent: 8, Columns: width }
    object = document.ref! Type: :XObject, Subtype: :Image, Width: width, Height: height, BitsPerComponent: 8,
      ColorSpace: :DeviceRGB, Filter: :FlateDecode, DecodeParms: decoding
    object.tap { object << @pixels }
  end
end
Prawn.image_handler.register! PlainPNG

# The code of each character in a font: TTFunk encodes the character again wherever it is drawn.
TTFunk::Subset::CodePage.prepend (Module.new do
  def from_unicode character
    @codes ||= {}
    @codes.fetch(character) { @codes[character] = super }
  end
end)

# Names in the PDF, of fonts and colors above all: escape each once.
PDF::Core.singleton_class.prepend (Module.new do
  names = {}
  define_method :pdf_object do |object, in_content_stream = false|
    object.is_a?(Symbol) ? (names[object] ||= super(object).freeze) : super(object, in_content_stream)
  end
end)

# Colors: Prawn converts them for each piece of text and each line.
Prawn::Graphics::Color.prepend (Module.new do
  shown = {}
  define_method(:color_to_s) {|color| shown[color] ||= super(color) }
  private :color_to_s
end)

# References to characters that have no meaning in formatted text: without them, most text has no need of its parser.
module Referenced
  CHARACTERS = (33..126).to_h {|code| ["&##{code};", [code].pack('U')] }.reject {|_, each| '&<>"'.include? each }.freeze
  REFERENCE = /&#\d+;/.freeze

  def self.replaced text
    (text.include? '&#') ? text.gsub(REFERENCE) {|reference| CHARACTERS[reference] || reference } : text
  end
end
