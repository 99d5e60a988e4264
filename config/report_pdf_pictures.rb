# frozen_string_literal: true

# Pictures never fail a report: what cannot be drawn is left out, with a note in its place.

require 'timeout'

module Pictures
  # For one drawing. AutoFlow has removed drawings that take far longer.
  SECONDS = 20
  FROM_POINT = %w[line_to curve_to close_path].freeze
  NOTE = 'is left out: it cannot be drawn'

  module_function

  def now
    Process.clock_gettime Process::CLOCK_MONOTONIC
  end
end

# The elements of a drawing become commands before any of them is executed.
Prawn::SVG::Elements::Root.prepend (Module.new do
  def process
    Timeout.timeout(Pictures::SECONDS) { super }
  rescue StandardError, SystemStackError => e
    @parent_calls.clear
    document.warnings << "the drawing is left out: #{e.class}"
  end
end)

# A command that fails is left out, and its neighbours are not: they may restore a state that another has saved.
Prawn::SVG::Interface.prepend (Module.new do
  def draw
    @drawn_until = Pictures.now + Pictures::SECONDS
    super
  end

  # Without the point that a path starts from, whose number may be none, the rest of the path is not valid.
  def issue_prawn_command prawn, calls
    has_point = false
    calls.each do |call|
      name = call[0]
      next if !has_point && (Pictures::FROM_POINT.include? name)
      next if Pictures.now > @drawn_until && name != 'save' && name != 'restore'
      super prawn, [call]
      has_point ||= name == 'move_to'
    rescue StandardError, SystemStackError => e
      has_point &&= name != 'move_to'
      @document.warnings << "an element is left out: #{e.class}"
    end
  end
end)

# Called by ReportConverter.
module PicturesLeftOut
  def convert_image node, opts = {}
    super
  rescue SystemStackError
    on_image_error :exception, node, nil, opts
  end

  def on_image_error _reason, node, _target, opts
    log :warn, opts[:message] if opts.key? :message
    ink_prose %(<em>[#{node.attr 'alt'}]</em> #{Pictures::NOTE}), align: opts[:align], margin: 0, normalize: false
    ink_caption node, category: :image, end: :bottom if node.title?
    theme_margin :block, :bottom, (next_enclosed_block node) unless opts[:pinned]
    nil
  end
end
