# frozen_string_literal: true

# Everything that a notebook says reaches asciidoctor as decimal references, such as &#42; for an asterisk. asciidoctor
# shows references in text, but not in listings, indented text and the like, where & means itself.
module Asciidoctor::Substitutors
  alias escape_specialchars sub_specialchars

  def sub_specialchars text
    (escape_specialchars text).gsub(/&amp;(#\d+;)/, '&\1')
  end
  alias sub_specialcharacters sub_specialchars
end
