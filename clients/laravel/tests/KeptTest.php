<?php

use Auditq\Laravel\Kept;

enum Suit: string
{
    case Hearts = 'H';
}

enum Plain
{
    case One;
}

return [
    'what JSON cannot say keeps its kind' => function () {
        $date = new DateTimeImmutable('2026-03-01 12:00:00.123456', new DateTimeZone('Europe/Berlin'));
        same(['type' => 'datetime', 'text' => '2026-03-01T12:00:00.123456+01:00'], Kept::of($date, 4096)->json);
        same('H', Kept::of(Suit::Hearts, 4096));
        same(['type' => 'enum', 'text' => 'Plain::One'], Kept::of(Plain::One, 4096)->json);
        same('text', Kept::of(new class {
            public function __toString(): string
            {
                return 'text';
            }
        }, 4096));
        same(['type' => 'array', 'text' => '[1,"é"]'], Kept::of([1, 'é'], 4096)->json);
        same(['type' => 'stdClass', 'text' => ''], Kept::of(new stdClass(), 4096)->json);
        same(['type' => 'resource (stream)', 'text' => ''], Kept::of(fopen('php://memory', 'r'), 4096)->json);
        same(['base64' => '/w=='], Kept::bytes("\xFF")->json);
        same(['float' => 'NAN'], Kept::float(NAN)->json);
        same(['float' => '-INF'], Kept::float(-INF)->json);
    },
    'a long value is its length, hash and head, cut at a character' => function () {
        $text = 'a' . str_repeat('é', 5000);
        same(['cut' => 'text', 'len' => 10001, 'sha256' => hash('sha256', $text), 'head' => 'a' . str_repeat('é', 31)], Kept::cut($text)->json);
        $bytes = "\xFF" . str_repeat('x', 5000);
        same(['cut' => 'bytes', 'len' => 5001, 'sha256' => hash('sha256', $bytes), 'head64' => base64_encode(substr($bytes, 0, 64))], Kept::cut($bytes)->json);
    },
    'a class without a name does not bring a NUL along' => function () {
        same(false, str_contains(Kept::of(new class {
        }, 4096)->json['type'], "\0"));
    },
];
