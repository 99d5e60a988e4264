# frozen_string_literal: true

# Loading asciidoctor-pdf takes longer than making a typical report. The asciidoctor-pdf command requires this file,
# which keeps the process once everything is loaded, and makes each report in a fork of it.
#
# Standard input is a socket from AutoFlow. Each message on it carries one end of another socket, for one report: the
# fork writes its process id there, reads a request, {"folder": ..., "arguments": [...]}, and writes the exit status.
# Asciidoctor's output goes to the file messages.txt in the folder. The process ends when AutoFlow does.

require_relative 'report_references'
require_relative 'report_pdf'

require 'json'
require 'socket'

module ReportServer
  module_function

  SAMPLE = <<~ADOC
    = Title

    == Section

    Text, *bold*, `code`, https://www.example.org[a link] and a &#38;.

    * item

    [cols="<19,>50",width=56%,text-size=8.5,options="header",head-rows=1,continued="",grid=rows,frame=ends]
    |===
    <|
    >|column

    <h|row
    >|1
    |===

    ....
    printed
    ....
  ADOC

  def run owner
    warm_up
    GC.start
    forks = []
    while (request = received owner)
      pid = fork do
        owner.close
        make request
      end
      forks = forks.select(&:alive?) << Process.detach(pid)
      request.close
    end
    forks.select(&:alive?).each { |fork| kill fork.pid } # AutoFlow has ended, perhaps by a SIGKILL
  end

  # Make a small report, so that the forks find the fonts read. REPORT_FONTS is the "font" part of its theme.
  def warm_up
    loader = Asciidoctor::PDF::ThemeLoader
    theme = loader.load_file (File.join __dir__, 'report-theme.yml'), (OpenStruct.new base_font_size: 12), __dir__
    theme = loader.new.load({ 'font' => (JSON.parse ENV['REPORT_FONTS']) }, theme)
    theme.__dir__ = __dir__
    (Asciidoctor.load SAMPLE, backend: 'pdf', safe: :secure, pdf_theme: theme).convert.render
  rescue StandardError => e
    warn "not warmed up: #{e.class}: #{e.message}" # reports only take longer
  end

  def kill pid
    Process.kill :KILL, pid
  rescue SystemCallError
    nil
  end

  def received owner
    owner.recv_io UNIXSocket
  rescue SocketError, SystemCallError, IOError
    nil
  end

  def make request
    Process.setsid
    request.puts Process.pid
    order = JSON.parse request.gets
    enter order['folder']
    request.puts status_of order['arguments']
  ensure
    exit! 0
  end

  def enter folder
    Dir.chdir folder
    ENV.update 'HOME' => folder, 'TMPDIR' => folder
    $stdin.reopen File::NULL
    $stdout.reopen File::NULL, 'w'
    $stderr.reopen 'messages.txt', 'w'
    $stderr.sync = true # AutoFlow reads it and ends this process as soon as it has the status
  end

  def status_of arguments
    options = Asciidoctor::Cli::Options.new backend: 'pdf', header_footer: true
    parsed = options.parse! arguments
    return parsed if parsed.is_a? Integer
    invoker = Asciidoctor::Cli::Invoker.new options
    invoker.invoke!
    invoker.code
  rescue StandardError, SystemStackError, NoMemoryError => e
    warn "#{e.class}: #{e.message}"
    1
  end
end

ReportServer.run UNIXSocket.for_fd(0)
exit! 0
